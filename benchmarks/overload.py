"""Measure what is left of the HTTP path when several times more comes than it can do.

Called by `make bench-overload`; `make bench-overload ARGS="--help"` tells the options. For each kind of work the
capacity is measured with a closed loop, then storm.py sends parts and multiples of it, on another core, to our server,
to the same with `shed = false`, and to uvicorn with FastAPI and `--limit-concurrency`, in turn. Never judges a figure.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare import processes
from benchmarks.compare.environments import OURS as THIS
from benchmarks.compare.environments import prepare
from benchmarks.compare.processes import HOST

HERE = Path(__file__).resolve().parent
LIMIT_CONCURRENCY = 100
"""Of uvicorn. It counts open connections as well: a client that keeps as many open is refused altogether."""

KINDS = ("async-cpu", "async-sleep", "sync-sleep", "sync-cpu")
OURS = ("-m", "runtime", "--dir", "{project}", "serve", "--only", "http", "--bind", f"{HOST}:{{port}}")
FASTAPI = (
    "-m", "uvicorn", "overload_app:app", "--host", HOST, "--port", "{port}", "--no-access-log", "--log-level",
    "error",
)  # fmt: skip
SERVERS: dict[str, tuple[str, ...]] = {
    "fnrun": OURS,
    "fnrun, shed off": OURS,
    "fastapi": FASTAPI,
    "fastapi, limit": (*FASTAPI, "--limit-concurrency", str(LIMIT_CONCURRENCY)),
}


def main() -> None:
    options = read_options()
    cores = processes.pick_cores()
    figures: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    pythons = {name: prepare("fastapi" if name.startswith("fastapi") else THIS) for name in options.servers}
    for number in range(options.rounds):
        for kind in options.kinds:
            for name in options.servers:
                with serve(name, pythons[name], cores[0]) as (port, pid):
                    capacity = measure_capacity(cores[1], port, kind, options.seconds)
                    for load in options.loads:
                        found = storm(cores[1], port, pid, f"/{kind}", load * capacity, options)
                        found["good_a_cpu_second"] = found["good"] / max(found["cpu"], 0.01)
                        figures.setdefault((kind, name, load), []).append({"capacity": capacity, **found})
                        print(
                            f"round {number + 1}: {line(kind, name, load, [figures[kind, name, load][-1]])}", flush=True
                        )
    print()
    for (kind, name, load), found in figures.items():
        parts = []
        for key in ("goodput", "good_a_cpu_second"):
            best = max(median(one[key] for one in figures[kind, name, other]) for other in options.loads)
            parts.append(median(one[key] for one in found) / best if best else 0.0)
        # Where other programs take a part of the core, what was five times the capacity may be ten times what is left.
        real = median(one["sent"] / (max(one["cpu"], 0.01) * best) for one in found) if best else 0.0
        print(line(kind, name, load, found), "of the best {:.0%}; by CPU {:.0%} at {:.1f}x".format(*parts, real))
    if options.json:
        record = [
            {"kind": kind, "server": name, "load": load, "rounds": rounds}
            for (kind, name, load), rounds in figures.items()
        ]
        options.json.write_text(json.dumps(record, indent=2) + "\n")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-overload", description="Send more than a server can do.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="a measurement (5)")
    parser.add_argument("--connections", type=int, default=1000, help="of the load client (1000)")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--servers", default=";".join(SERVERS), help="separated by ;")
    parser.add_argument("--loads", default="0.5,1,2,5", help="multiples of the capacity")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything measured to a file, too")
    options = parser.parse_args()
    options.kinds = options.kinds.split(",")
    options.servers = options.servers.split(";")
    options.loads = [float(load) for load in options.loads.split(",")]
    return options


@contextmanager
def serve(name: str, python: Path, core: int | None) -> Iterator[tuple[int, int]]:
    """One server, up and listening: its port and its process; it and its children are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fnrun-bench-", ignore_cleanup_errors=True) as temporary:
        project, log = Path(temporary) / "project", Path(temporary) / "log"
        shutil.copytree(HERE / "apps" / "overload", project, ignore=shutil.ignore_patterns("__pycache__"))
        shed = "false" if "off" in name else "true"
        (project / "functions.toml").write_text(f'[http]\nauth = "public"\nshed = {shed}\n')
        port = processes.free_port()
        command = [str(python), *(part.format(port=port, project=project) for part in SERVERS[name])]
        with processes.pinned(core):
            process = processes.start(command, log, HERE / "apps", processes.clean_environ())
        try:
            processes.wait_until_up(process, port, "/async-sleep")
            yield port, process.pid
        finally:
            processes.stop(process)


def measure_capacity(core: int | None, port: int, kind: str, seconds: float) -> float:
    """Answers a second of a closed loop wide enough to keep it busy, and no wider."""
    path, width = f"/{kind}", "64" if kind == "async-sleep" else "32"  # 32: no more than there are threads
    for _ in range(2):  # the first warms up
        command = [sys.executable, "-P", str(HERE / "load.py"), str(port), width, str(seconds / 2), "GET", path]
        counted = run(core, command)
        if counted["errors"]:
            raise SystemExit(f"{path} fails in a closed loop: {counted}")
    return counted["requests"] / counted["seconds"]


def storm(core: int | None, port: int, pid: int, path: str, rate: float, options: argparse.Namespace) -> dict[str, Any]:
    settings = [str(port), str(pid), path, f"{rate:.1f}", str(options.seconds), str(options.connections)]
    return run(core, [sys.executable, "-P", str(HERE / "storm.py"), *settings])


def run(core: int | None, command: list[str]) -> dict[str, Any]:
    with processes.pinned(core):
        output = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if output.returncode:
        raise SystemExit(f"the load client failed: {output.stderr}")
    found: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return found


def line(kind: str, name: str, load: float, found: list[dict[str, Any]]) -> str:
    def of(key: str, at: int) -> float:
        return median(one[key][at] for one in found)

    goodput, capacity = (median(one[key] for one in found) for key in ("goodput", "capacity"))
    return (
        f"{kind:<12} {name:<16} {load:>4}x of {capacity:>6,.0f}/s: good {goodput:>7,.1f}/s "
        f"{median(one['good_a_cpu_second'] for one in found):>6,.0f} a CPU s  "
        f"p50 {of('accepted_ms', 0):>6.1f} p99 {of('accepted_ms', 1):>7.1f} ms  "
        f"refused p50 {of('refused_ms', 0):>5.1f} p99 {of('refused_ms', 1):>6.1f} max {of('refused_ms', 2):>6.1f} ms "
        f"(onset p99 {of('refused_onset_ms', 1):>6.1f})  "
        f"unanswered {median(one['unanswered'] for one in found):,.0f} "
        f"{ {key: value for key, value in found[-1]['statuses'].items() if key != '200'} }"
    )


if __name__ == "__main__":
    main()
