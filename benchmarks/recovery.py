"""Measure how soon work goes on after a kill: a worker's runs elsewhere, and a whole system on its own machine.

`make bench-recovery`; --help tells the options. Worker: two are at work, one of them is killed with all of its runs
under way, and the time is taken until the other has begun them again. All: HTTP, worker, scheduler and the embedded
store with its kept runs are killed at once and started again; the time is taken until the system says that it is ready,
a call is answered and the run that was under way begins again. Kills are SIGKILL. Never judges; what is promised is
printed beside it.
"""

import argparse
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # last: a file here has the name of a standard module

import growth_ledger as ledgers
from growth import answers, free_port, open_for, project, serving, wait_for

from runtime.base.ids import new_run_id
from runtime.ledger.calls import do
from runtime.ledger.desk import Desk
from runtime.ledger.records import Submission

PROMISED_SECONDS = {"worker": 12.0, "all": 10.0}
HOLDS = """
import asyncio
import time
from pathlib import Path
from runtime import queue

@queue("default")
async def hold(file: str) -> None:
    with Path(file).open("a") as told:
        told.write(f"{time.time()}\\n")
    await asyncio.sleep(300)
"""
PATIENCE_SECONDS = 90


def begun(file: Path) -> list[float]:
    """When handlers have begun, in the order they said so."""
    return [float(line) for line in file.read_text().splitlines()] if file.exists() else []


def submit(desk: Desk, function: str, payloads: list[dict[str, object]]) -> list[str]:
    """Runs, accepted."""
    runs = [Submission(id=new_run_id(), function=function, payload=json.dumps(one).encode()) for one in payloads]
    do(desk.store.connect(), desk.ledger.accept(runs))
    return [run.id for run in runs]


def family(pid: int) -> set[int]:
    """A process and all it has begun."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def kill_all(pids: set[int]) -> float:
    """When they were."""
    at = time.time()
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return at


def recover_worker(runs: int) -> dict[str, float]:
    """Seconds until the first and the last of its runs begin again."""
    with project(1) as root, open_for(root) as desk:
        (root / "functions" / "held.py").write_text(HOLDS)
        file = root / "begun"
        with serving(root, "worker", 1) as one:
            submit(desk, "held.hold", [{"file": str(file)}] * runs)
            wait_for(lambda: len(begun(file)) == runs, PATIENCE_SECONDS, "the first worker")
            with serving(root, "worker", 1) as other:
                alive = desk.ledger.workers()
                wait_for(lambda: len(do(desk.store.connect(), alive)) == 2, PATIENCE_SECONDS, "the second worker")
                killed = kill_all(family(one.pid))
                wait_for(lambda: len(begun(file)) >= 2 * runs, PATIENCE_SECONDS, "the runs of the killed worker")
                again = sorted(at - killed for at in begun(file)[runs:])
                kill_all(family(other.pid))  # nobody waits for the sleepers
    return {"runs": runs, "first_s": again[0], "last_s": again[-1]}


def recover_all(kept: int) -> dict[str, float]:
    """Seconds until it is ready, a call is answered, the run under way begins again. kept: runs in its store."""
    with project(1) as root:
        (root / "functions" / "held.py").write_text(HOLDS)
        port, file = free_port(), root / "begun"
        with serving(root, "", 1, port) as server:
            wait_for(lambda: answers(port, "/_/ready"), PATIENCE_SECONDS, "the system")
            with ledgers.use_of(root) as store:
                store.keep(kept)
                submit(store.desk, "held.hold", [{"file": str(file)}])
            wait_for(lambda: len(begun(file)) == 1, PATIENCE_SECONDS, "its run")
            state = root / ".fnrun" / "store"
            store_ids = {int((state / name).read_text()) for name in ("keeper.lock", "server.pid")}
            killed = kill_all(family(server.pid) | store_ids)
        with serving(root, "", 1, port) as server:
            wait_for(lambda: answers(port, "/_/ready"), PATIENCE_SECONDS, "the system")
            ready = time.time()
            wait_for(lambda: answers(port, "/f0"), PATIENCE_SECONDS, "a call")
            called = time.time()
            wait_for(lambda: len(begun(file)) > 1, PATIENCE_SECONDS, "the run that was under way")
            again = begun(file)[1]
            kill_all(family(server.pid))
    return {"kept_runs": kept, "ready_s": ready - killed, "call_s": called - killed, "run_again_s": again - killed}


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=50, help="under way in the killed worker (50)")
    parser.add_argument("--kept", type=int, default=100_000, help="runs in the killed store (100000)")
    parser.add_argument("--only", choices=("worker", "all"))
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    found: list[dict[str, object]] = []
    for number in range(options.rounds):
        for what in ("worker", "all") if options.only is None else (options.only,):
            figures = recover_worker(options.runs) if what == "worker" else recover_all(options.kept)
            found.append({"what": what, "promised_s": PROMISED_SECONDS[what], **figures})
            shown = ";  ".join(f"{name.replace('_', ' ')} {round(value, 2):,}" for name, value in figures.items())
            print(f"round {number + 1}: {what:7} {shown};  promised {PROMISED_SECONDS[what]:g} s", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
