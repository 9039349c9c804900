"""Measure whether a request and a run cost the same with more functions, more kept runs, and more processes.

`make bench-growth`; --help tells the options. Costs are seconds on a processor, of the server's processes and of the
store, for each request or run: so neighbours count little, and the client, which shares the machine, not at all. Rates
are told, too; two processes can only be twice as fast as one where client, store and neighbours leave them a core each.
With handlers that do nothing, two cores are too few for that: so `processes` has some that compute for 2 ms as
well, and `cores` says how many cores the processes had. Never judges.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # last: a file here has the name of a standard module

import growth_ledger as ledgers
from load import HOST, ask, read_answer, request_bytes
from storm import cpu_seconds

from runtime.base.ids import new_run_id
from runtime.base.settings import load_settings
from runtime.ledger.calls import do
from runtime.ledger.desk import Desk, open_desk
from runtime.ledger.records import Submission

FUNCTIONS_A_FILE = 10
FUNCTION = """
@http.get("/f{0}")
@queue("default")
async def f{0}(name: str = "x") -> dict[str, str]:
    sum(range({1}))
    return {{"message": "Hello " + name}}
"""
COMPUTES = 100_000
"""What is added up by handlers that compute: some 2 ms, beside which the client and the store need next to nothing."""
START_SECONDS, STOP_SECONDS, STALLED_SECONDS = 60, 20, 60
CONNECTIONS = 32
Figures = dict[str, float]


@contextmanager
def project(functions: int, computes: int = 0) -> Iterator[Path]:
    """A project of so many functions, each with a route and in the queue. computes: how many numbers each adds up."""
    root = Path(tempfile.mkdtemp(prefix="growth"))
    (root / "functions").mkdir()
    for first in range(0, functions, FUNCTIONS_A_FILE):
        text = "from runtime import http, queue\n"
        for number in range(first, min(first + FUNCTIONS_A_FILE, functions)):
            text += FUNCTION.format(number, computes)
        (root / "functions" / f"m{first}.py").write_text(text)
    (root / "functions.toml").write_text('[http]\nauth = "public"\n')
    try:
        yield root
    finally:
        ledgers.remove(root)


@contextmanager
def open_for(root: Path) -> Iterator[Desk]:
    """A project's store, from here."""
    desk = open_desk(root, load_settings(root).settings)
    try:
        yield desk
    finally:
        desk.close()


def name_of(number: int) -> str:
    return f"m{number - number % FUNCTIONS_A_FILE}.f{number}"


@contextmanager
def serving(root: Path, role: str, workers: int, port: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """`fnrun serve` with one role; with all of them if none is named."""
    command = [sys.executable, "-P", "-m", "runtime", "--dir", str(root), "serve", *(("--only", role) if role else ())]
    command += ["--bind", f"{HOST}:{port}"] if port else []
    settings = {"HTTP__WORKERS": str(workers), "QUEUE__WORKERS": str(workers), "LOG__LEVEL": "error"}
    environ = {**os.environ, **{f"FNRUN_{name}": value for name, value in settings.items()}}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environ, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])


def wait_for(done: Callable[[], bool], seconds: float, what: str) -> float:
    """When it is done. What does not get there ends the measurement."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {seconds:g} s")
        time.sleep(0.01)
    return time.monotonic()


class Caller(asyncio.Protocol):
    """Asks for one path after the other, as long as there are any."""

    def __init__(self, paths: Iterator[bytes], done: asyncio.Future[None]) -> None:
        self._paths, self._done = paths, done
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        request = next(self._paths, None)
        if request is not None:
            self._transport.write(request)
        elif not self._done.done():
            self._done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if (answer := read_answer(self._data)) is None:
            return
        self._data = self._data[answer[2] :]
        if answer[0] != 200 and not self._done.done():
            self._done.set_exception(SystemExit(f"a request was answered {answer[0]}"))
        self._next()


async def call_all(port: int, paths: list[str], count: int) -> None:
    """So many requests, to all paths in turn."""
    loop = asyncio.get_running_loop()
    made = [request_bytes("GET", path) for path in paths]
    wanted = (made[number % len(made)] for number in range(count))
    done = [loop.create_future() for _ in range(CONNECTIONS)]
    opened = [await loop.create_connection(lambda one=one: Caller(wanted, one), HOST, port) for one in done]
    await asyncio.gather(*done)
    for transport, _ in opened:
        transport.abort()


def measure_http(functions: int, workers: int, requests: int, computes: int = 0) -> Figures:
    """Requests to all functions in turn."""
    with project(functions, computes) as root:
        port, paths = free_port(), [f"/f{number}" for number in range(functions)]
        began = time.monotonic()
        with serving(root, "http", workers, port) as server:
            ready = wait_for(lambda: answers(port, paths[-1]), START_SECONDS, "the server") - began
            asyncio.run(call_all(port, paths, max(len(paths) * 4, requests // 10)))
            found = [call_some(server.pid, port, paths, requests // ledgers.TRIES) for _ in range(ledgers.TRIES)]
    rate, us = max((rate, us) for us, rate in found)
    return {
        "computes": computes, "functions": functions, "processes": workers, "ready_s": ready,
        "cpu_us_a_request": min(us for us, _ in found), "requests_a_second": rate, "cores": rate * us / 1e6,
    }  # fmt: skip


def call_some(pid: int, port: int, paths: list[str], count: int) -> tuple[float, float]:
    """CPU of the server for each request, in us; requests a second."""
    before, began = cpu_seconds(pid), time.monotonic()
    asyncio.run(call_all(port, paths, count))
    seconds = time.monotonic() - began
    return (cpu_seconds(pid) - before) / count * 1e6, count / seconds


def answers(port: int, path: str) -> bool:
    try:
        return ask(port, "GET", path)[0] == 200
    except OSError:
        return False


def store_cpu(desk: Desk) -> float:
    found = desk.store.connect().info("cpu")
    return float(found["used_cpu_user_main_thread"]) + float(found["used_cpu_sys_main_thread"])


def measure_worker(functions: int, workers: int, runs: int, computes: int = 0) -> Figures:
    """Runs of all functions in turn; measured from when a tenth is done until a tenth is left."""
    with project(functions, computes) as root, open_for(root) as desk:
        return {"computes": computes, **drain(desk, root, functions, workers, runs)}


def drain(desk: Desk, root: Path, functions: int, workers: int, runs: int) -> Figures:
    client, ledger = desk.store.connect(), desk.ledger
    for first in range(0, runs, 500):
        some = [name_of((first + one) % functions) for one in range(500)]
        do(client, ledger.accept([Submission(id=new_run_id(), function=name) for name in some]))

    def left() -> int:
        return sum(int(client.zcard(f"{ledger.prefix}{kind}:default")) for kind in ("ready", "leases"))

    with serving(root, "worker", workers) as server:
        began = wait_for(lambda: left() <= runs * 0.9, START_SECONDS, "the worker")
        before, stored, first = cpu_seconds(server.pid), store_cpu(desk), left()
        ended = wait_for(lambda: left() <= runs * 0.1, STALLED_SECONDS, "the worker")
        done = first - left()
        used, stored = cpu_seconds(server.pid) - before, store_cpu(desk) - stored
    return {
        "functions": functions, "processes": workers, "worker_us_a_run": used / done * 1e6,
        "store_us_a_run": stored / done * 1e6, "runs_a_second": done / (ended - began), "cores": used / (ended - began),
    }  # fmt: skip


def grown(measured: Callable[[int], Figures], what: str) -> Iterator[Figures]:
    """With one process and with two; how many times as much two do."""
    one, two = measured(1), measured(2)
    yield one
    yield {**two, "times_of_one": two[f"{what}_a_second"] / one[f"{what}_a_second"]}


def measure(part: str, options: argparse.Namespace) -> Iterator[Figures]:
    """One part's figures, a row at a time."""
    functions = sorted({1, 100, options.functions} if options.functions > 100 else {1, options.functions})
    if part == "http":
        yield from (measure_http(count, 1, options.count) for count in functions)
    elif part == "worker":
        yield from (measure_worker(count, 1, options.count) for count in functions)
    elif part == "processes":
        for computes, count in ((0, options.count), (COMPUTES, options.count // 4)):
            yield from grown(lambda workers, c=computes, n=count: measure_http(10, workers, n, c), "requests")
            yield from grown(lambda workers, c=computes, n=count: measure_worker(10, workers, n, c), "runs")
    elif part == "runs":
        counts = sorted({0, options.runs // 10, options.runs})
        for count in (1, options.functions):
            yield from ledgers.measure_runs(counts, count, options.count // 4)
    elif part == "queues":
        yield from ledgers.measure_queues(sorted({1, 10, options.functions // 10}), options.count // 4)
    else:
        yield from ledgers.measure_minutes(sorted({1, options.functions}), options.hours)


PARTS = ("http", "worker", "processes", "runs", "queues", "minutes")


def show(part: str, figures: Figures) -> None:
    """One row, as text."""
    shown = (
        f"{name.replace('_', ' ')} {value:,.{0 if value >= 100 or value == int(value) else 2}f}"
        for name, value in figures.items()
    )
    print(f"{part:10} {';  '.join(shown)}", flush=True)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between (all)")
    parser.add_argument("--functions", type=int, default=1000, help="the most functions (1000)")
    parser.add_argument("--runs", type=int, default=1_000_000, help="the most runs that are kept (1000000)")
    parser.add_argument("--count", type=int, default=20_000, help="requests, or runs, that are measured (20000)")
    parser.add_argument("--hours", type=int, default=2, help="of counts by the minute (2)")
    parser.add_argument("--quick", action="store_true", help="few of all: shows that it works")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    if options.quick:
        options.functions, options.runs, options.count, options.hours = 20, 2000, 2000, 1
    found: dict[str, list[Figures]] = {}
    for part in options.only.split(","):
        if part not in PARTS:
            raise SystemExit(f"there is no part {part!r}; write some of {', '.join(PARTS)}")
        for figures in measure(part, options):
            found.setdefault(part, []).append(figures)
            show(part, figures)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
