"""Measure the HTTP path beside FastAPI and functions-framework, in one go, and print the ratios.

Called by `make bench`; `make bench ARGS="--help"` tells the options. In each round every server is started, checked,
measured and stopped in turn, alone on one core, with the load client on another. Fails on a wrong answer or an error;
never judges a time; listens on and talks to 127.0.0.1 only.
"""

# This folder leads sys.path and this file has the name of a standard module: import nothing here that needs `http`.
import argparse
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

from load import HOST, ask

HERE = Path(__file__).resolve().parent
APPS = HERE / "apps"
VENVS = HERE.parent / ".venv-bench"
OURS = "fnrun"
WRK = shutil.which("wrk")
WARM_UP_SECONDS = 1
START_SECONDS, STOP_SECONDS, INSTALL_SECONDS = 20, 10, 600
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")  # the others could configure a server: THREADS, FNRUN_...


class Case(NamedTuple):
    """What is asked under load, and the answer it must get."""

    method: str
    path: str
    body: str
    answer: dict[str, object]


class Server(NamedTuple):
    """requirements: pinned, of a peer's own environment. command: after its python; {port} and {project} filled in."""

    requirements: tuple[str, ...]
    command: tuple[str, ...]
    note: str


CASES = {
    "GET": Case("GET", "/hello?name=x", "", {"message": "Hello x"}),
    "POST": Case("POST", "/sum", '{"x": 2, "y": 3.5}', {"result": 5.5}),
    "sync": Case("GET", "/hello-sync?name=x", "", {"message": "Hello x"}),
}
REFUSED = '{"x": "no number", "y": 3.5}'  # every server validates: POST /sum answers this with a 4xx

SERVERS = {
    OURS: Server(
        (),
        ("-m", "runtime", "--dir", "{project}", "serve", "--only", "http", "--bind", f"{HOST}:{{port}}"),
        "this checkout",
    ),
    "fastapi": Server(
        ("fastapi==0.165.0", "pydantic==2.14.3", "uvicorn[standard]==0.54.0", "uvloop==0.23.0", "httptools==0.9.0"),
        ("-m", "uvicorn", "fastapi_app:app", "--host", HOST, "--port", "{port}", "--no-access-log"),
        "uvicorn, one process, access log off",
    ),
    "functions-framework": Server(
        ("functions-framework==3.10.2", "flask==3.1.3", "gunicorn==27.0.1"),
        ("-m", "functions_framework", "--source", "functions_framework_app.py", "--target", "main", "--host", HOST,
         "--port", "{port}"),
        "gunicorn, one worker, its default threads",
    ),
}  # fmt: skip


class BenchmarkError(Exception):
    """A server that does not start, answers wrongly, or fails under load."""


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped then, too
    options = read_options()
    server_core, client_core = cores = pick_cores()
    print_conditions(options, cores)
    figures: dict[str, dict[str, list[float]]] = {case: {name: [] for name in options.servers} for case in CASES}
    try:
        pythons = {name: prepare(name) for name in options.servers}
        for number in range(options.rounds):
            first = number % len(options.servers)  # each is first in turn, so that drift falls on all
            for name in options.servers[first:] + options.servers[:first]:
                with serve(name, pythons[name], server_core) as port:
                    check_answers(port)
                    for case, asked in CASES.items():
                        make_load(client_core, port, asked, options.connections, WARM_UP_SECONDS)
                        counted = make_load(client_core, port, asked, options.connections, options.seconds)
                        figures[case][name].append(counted["requests"] / counted["seconds"])
                    check_answers(port)
                shown = "  ".join(f"{case} {figures[case][name][-1]:,.0f}" for case in CASES)
                print(f"round {number + 1}: {name}: {shown}", flush=True)
    except (BenchmarkError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"benchmark failed: {error}")
    print_table(figures)
    if options.json:
        write_json(options, cores, figures)


def read_options() -> argparse.Namespace:
    peers = [name for name in SERVERS if name != OURS]
    parser = argparse.ArgumentParser(prog="make bench", description="Compare the HTTP path with its peers.")
    parser.add_argument("--rounds", type=int, help="of all servers, interleaved (3)")
    parser.add_argument("--seconds", type=int, help="a measurement (5)")
    parser.add_argument("--connections", type=int, default=64, help="kept alive by the load client (64)")
    parser.add_argument("--peers", default=",".join(peers), help=f'of {",".join(peers)} (all); "" for none')
    parser.add_argument("--quick", action="store_true", help="for a first look: 1 round of 2 seconds")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything measured to a file, too")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    if options.seconds is None:
        options.seconds = 2 if options.quick else 5
    options.servers = [OURS, *(name.strip() for name in options.peers.split(",") if name.strip())]
    if unknown := set(options.servers) - set(SERVERS):
        parser.error(f"--peers: no peer {', '.join(sorted(unknown))}; there are {', '.join(peers)}")
    if not (1 <= options.rounds <= 50 and 1 <= options.seconds <= 60 and 1 <= options.connections <= 1000):
        parser.error("--rounds is 1 to 50, --seconds 1 to 60, --connections 1 to 1000")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.parent}")
    return options


def pick_cores() -> tuple[int | None, int | None]:
    """One for the server, one for the client; None where the system cannot pin, or has but one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What is started inside runs on `core`: children inherit it from the first instruction on."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# --- servers -----------------------------------------------------------------------------------------------------


def prepare(name: str) -> Path:
    """The python that runs a server: ours is this one; a peer's environment is made on first use and kept."""
    if name == OURS:
        return Path(sys.executable)
    folder = VENVS / name
    python, stamp = folder / "bin" / "python", folder / "made-from"
    wanted = "\n".join((sys.version, *SERVERS[name].requirements))
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"setting up {name} (once)", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        VENVS.mkdir(exist_ok=True)
        (VENVS / ".gitignore").write_text("*\n")
        pip = [python, "-m", "pip", "install", "--quiet", *SERVERS[name].requirements]
        for command in ([sys.executable, "-m", "venv", folder], pip):
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
            if done.returncode:
                raise BenchmarkError(f"no environment for {name}: {done.stdout}{done.stderr}")
        stamp.write_text(wanted)
    return python


@contextmanager
def serve(name: str, python: Path, core: int | None) -> Iterator[int]:
    """One server, up and listening on the port this gives; it and its children are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fnrun-bench-") as temporary:
        project, log = Path(temporary) / "project", Path(temporary) / "log"
        shutil.copytree(APPS / "fnrun", project, ignore=shutil.ignore_patterns("__pycache__"))
        port = free_port()
        command = [str(python), *(part.format(port=port, project=project) for part in SERVERS[name].command)]
        environ = {key: os.environ[key] for key in KEPT_VARIABLES if key in os.environ}
        environ["PYTHONDONTWRITEBYTECODE"] = "1"
        with log.open("wb") as output, pinned(core):
            process = subprocess.Popen(
                command, cwd=APPS, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        try:
            wait_until_up(process, port)
            yield port
        except BenchmarkError as error:
            told = log.read_text(errors="replace")[-2000:]
            raise BenchmarkError(f"{name}: {error}; the end of its output:\n{told}") from None
        finally:
            stop(process)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def wait_until_up(process: "subprocess.Popen[bytes]", port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise BenchmarkError(f"it did not start, exit code {process.returncode}")
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.05)
    raise BenchmarkError(f"it did not listen within {START_SECONDS} s")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server's whole process group: in order, then by force."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_SECONDS)


# --- measuring ---------------------------------------------------------------------------------------------------


def check_answers(port: int) -> None:
    try:
        for case in CASES.values():
            status, body = ask(port, case.method, case.path, case.body)
            if status != 200 or json.loads(body) != case.answer:
                raise BenchmarkError(f"{case.method} {case.path} answers {status} {body!r}")
        status, body = ask(port, "POST", "/sum", REFUSED)
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"it does not answer as HTTP should: {error!r}") from None
    if not 400 <= status <= 499:
        raise BenchmarkError(f"POST /sum takes {REFUSED}: {status} {body!r}")


def make_load(core: int | None, port: int, case: Case, connections: int, seconds: int) -> dict[str, float]:
    """What the load client counted, without errors: {"requests", "seconds"}."""
    request = [case.method, case.path, *([case.body] if case.body else [])]
    command = [sys.executable, "-P", str(HERE / "load.py"), str(port), str(connections), str(seconds), *request]
    if WRK:
        settings = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / "wrk.lua")]
        command = [WRK, *settings, f"http://{HOST}:{port}", "--", *request]
    with pinned(core):
        output = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    if output.returncode:
        raise BenchmarkError(f"the load client failed: {output.stderr.strip() or output.stdout.strip()}")
    counted: dict[str, float] = json.loads(output.stdout.splitlines()[-1])
    if counted["errors"] or not counted["requests"]:
        raise BenchmarkError(f"{case.method} {case.path} fails under load: {counted}")
    return counted


# --- telling -----------------------------------------------------------------------------------------------------


def print_conditions(options: argparse.Namespace, cores: tuple[int | None, int | None]) -> None:
    pinning = "not pinned" if cores[0] is None else "server on core {}, client on core {}".format(*cores)
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {pinning}")
    print(f"{options.rounds} round(s) of {options.seconds} s a case, {options.connections} connections")
    print("load client:", "wrk" if WRK else "load.py, in Python: it may be the slower side; better put wrk on PATH")
    if hasattr(os, "getloadavg"):
        print(f"load average before: {os.getloadavg()[0]:.2f}; what else runs here shifts figures, so quote ratios")
    for name in options.servers:
        print(f"{name}: {'; '.join((SERVERS[name].note, ' '.join(SERVERS[name].requirements))).rstrip('; ')}")
    print(flush=True)


def spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def ratios(figures: dict[str, list[float]], peer: str) -> list[float]:
    """Ours to a peer's, round by round: what slows a round slows both."""
    return [ours / theirs for ours, theirs in zip(figures[OURS], figures[peer], strict=True)]


def print_table(figures: dict[str, dict[str, list[float]]]) -> None:
    print(f"\n{'requests/s':<27} {'median':>10} {'min':>10} {'max':>10}   {OURS} is ... as fast (min-max)")
    for case, by_server in figures.items():
        for name, values in by_server.items():
            line = f"{case:<6} {name:<20}" + "".join(f" {value:>10,.0f}" for value in spread(values).values())
            if name != OURS:
                line += "   {median:.2f}x ({min:.2f}-{max:.2f})".format(**spread(ratios(by_server, name)))
            print(line)


def write_json(
    options: argparse.Namespace, cores: tuple[int | None, int | None], figures: dict[str, dict[str, list[float]]]
) -> None:
    record = {
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "client": "wrk" if WRK else "load.py",
        "cores": dict(zip(("server", "client"), cores, strict=True)),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "connections": options.connections,
        "servers": {name: SERVERS[name].requirements for name in options.servers},
        "requests_per_second": {
            case: {name: {**spread(values), "rounds": values} for name, values in by_server.items()}
            for case, by_server in figures.items()
        },
        "ratios": {
            case: {name: spread(ratios(by_server, name)) for name in by_server if name != OURS}
            for case, by_server in figures.items()
        },
    }
    options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
