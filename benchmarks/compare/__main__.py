"""The command: `make bench`. Options choose what is measured; ARGS="--help" tells them.

Figures are kept in .venv-bench/results.json, each as soon as it is known. A case that is measured again begins anew,
unless with --resume; what is not asked for stays. --docs writes docs/benchmarks.md, its picture and its JSON.
"""

import argparse
import os
import platform
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.compare import document, tables
from benchmarks.compare.environments import FOLDER, OURS
from benchmarks.compare.jobs import measure as jobs
from benchmarks.compare.jobs import sides
from benchmarks.compare.processes import BenchmarkError
from benchmarks.compare.results import Results
from benchmarks.compare.web import measure as web
from benchmarks.compare.web import servers

_CASES = {part.PART: list(part.CASES) for part in (web, jobs)}
_SIDES = {web.PART: list(servers.SERVERS), jobs.PART: list(sides.SIDES)}


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended then, too
    options = read_options()
    results = Results(options.results)
    try:
        if not options.tell:
            measure(options, results)
    except (BenchmarkError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"benchmark failed: {error}\nWhat was measured is kept: --resume goes on.")
    print(tables.as_text(results.record))
    if options.docs:
        document.write(results.record)
    print(f"\nfigures: {options.results}")


def measure(options: argparse.Namespace, results: Results) -> None:
    """What was asked for, HTTP first."""
    told = describe(options)
    for line in told.values():
        print(line)
    if cases := options.cases[web.PART]:
        seconds = options.seconds or (1 if options.quick else 2)
        plan = web.Plan(options.sides[web.PART], cases, options.rounds, seconds, options.connections, options.rate)
        results.part(web.PART, **told)
        web.measure(plan, results, resume=options.resume)
    if cases := options.cases[jobs.PART]:
        scale = options.scale or (0.2 if options.quick else 1)
        results.part(jobs.PART, **told)
        jobs.measure(jobs.Plan(options.sides[jobs.PART], cases, options.rounds, scale), results, resume=options.resume)


def describe(options: argparse.Namespace) -> dict[str, str]:
    """The machine, and the command: figures without them say nothing."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or "unknown CPU",
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "machine": f"{cpu}, {cores} cores, {platform.system()} {platform.machine()}, Python "
        f"{platform.python_version()}; load average before {load}",
        "command": f'make bench ARGS="{shlex.join(sys.argv[1:])}"' if sys.argv[1:] else "make bench",
        "rounds": f"{options.rounds} rounds, interleaved",
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cases = ", ".join(f"{part}.{case}" for part, names in _CASES.items() for case in names)
    parser.add_argument("--only", metavar="CASES", help=f"of http, queue, {cases}; several with commas (all)")
    peers = ", ".join(dict.fromkeys(name for names in _SIDES.values() for name in names if name != OURS))
    parser.add_argument("--peers", metavar="NAMES", help=f'of {peers}; "" for ours alone (all)')
    parser.add_argument("--rounds", type=int, help="of all sides, interleaved (3)")
    parser.add_argument("--seconds", type=float, help="an HTTP measurement (2)")
    parser.add_argument("--connections", type=int, default=64, help="kept alive by the HTTP client (64)")
    parser.add_argument("--rate", type=float, help="of http.late, requests/s (half of what Starlette does)")
    parser.add_argument("--scale", type=float, help="of how many jobs a queue gets (1)")
    parser.add_argument("--quick", action="store_true", help="a first look: one short round of what matters most")
    parser.add_argument("--resume", action="store_true", help="measure only what is not measured yet")
    parser.add_argument("--tell", action="store_true", help="measure nothing: show (with --docs: write) what there is")
    parser.add_argument("--docs", action="store_true", help="write the results into docs/")
    parser.add_argument("--results", type=Path, default=FOLDER / "results.json", help="where figures are kept")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    try:
        options.cases = choose_cases(options.only, quick=options.quick)
        options.sides = choose_sides(options.peers)
    except ValueError as error:
        parser.error(str(error))
    if not (1 <= options.rounds <= 50 and 1 <= options.connections <= 1000):
        parser.error("--rounds is 1 to 50, --connections 1 to 1000")
    return options


def choose_cases(only: str | None, *, quick: bool = False) -> dict[str, list[str]]:
    """By part. ValueError for what there is not."""
    if only is None:
        return {part.PART: part.default_cases(quick=quick) for part in (web, jobs)}
    chosen: dict[str, list[str]] = {part: [] for part in _CASES}
    for name in filter(None, (one.strip() for one in only.split(","))):
        part, _, case = name.partition(".")
        if part not in _CASES or (case and case not in _CASES[part]):
            raise ValueError(f"--only: there is no {name}")
        chosen[part] += [one for one in ([case] if case else _CASES[part]) if one not in chosen[part]]
    return chosen


def choose_sides(peers: str | None) -> dict[str, list[str]]:
    """By part, ours first. A name may be of one part or of both. ValueError for a peer that there is not."""
    if peers is None:
        return _SIDES
    wanted = [one.strip() for one in peers.split(",") if one.strip()]
    if unknown := [one for one in wanted if not any(one in names for names in _SIDES.values())]:
        raise ValueError(f"--peers: there is no {', '.join(unknown)}")
    return {part: [name for name in names if name == OURS or name in wanted] for part, names in _SIDES.items()}


if __name__ == "__main__":
    main()
