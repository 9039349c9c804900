"""CPU loops in a row, each killed at its timeout, and what the others' calls take meanwhile: `python -m tests.loops`.

Real server and processes. Prints figures, and fails if anything is left of the loops. What tests/live/test_isolation.py
asks once of each fault, this asks of one fault fifty times.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from textwrap import dedent

import httpx

from tests.live.test_isolation import cells, descriptors
from tests.live_servers import Server, until

FUNCTIONS = """
    import re
    from runtime import fn, http

    @http.get
    async def quick(): return 1

    @http.get
    @fn(isolation="process", timeout="{timeout}s")
    def spin():
        while True:
            pass

    @http.get
    @fn(isolation="process", timeout="{timeout}s")
    def regex():
        return bool(re.match("(a+)+$", "a" * 60 + "b"))
"""
_PACE_SECONDS = 0.01


def quick_while(server: Server, work: Callable[[httpx.Client], None]) -> list[float]:
    """What quick calls took, in ms, one begun each 10 ms while `work` was done."""
    done, times = threading.Event(), []

    def call() -> None:
        with server.client() as client:
            while not done.is_set():
                began = time.perf_counter()
                assert client.get("/calls/quick").status_code == 200
                took = time.perf_counter() - began
                times.append(took * 1000)
                time.sleep(max(0.0, _PACE_SECONDS - took))

    caller = threading.Thread(target=call)
    caller.start()
    with server.client() as client:
        work(client)
    done.set()
    caller.join()
    return times


def shown(name: str, times: list[float]) -> float:
    p99 = quantiles(times, n=100)[98]
    print(
        f"{name:24} {len(times):6} calls   p50 {median(times):7.2f} ms   p99 {p99:7.2f} ms   max {max(times):7.2f} ms"
    )
    return p99


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--timeout", type=float, default=0.5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "functions").mkdir()
        (root / "functions" / "calls.py").write_text(dedent(FUNCTIONS.format(timeout=given.timeout)))
        environ = {"FNRUN_HTTP__BIND": "127.0.0.1:0", "FNRUN_HTTP__AUTH": "public", "FNRUN_ISOLATION__IDLE": "300ms"}
        server = Server(root, "serve", environ=environ | {"FNRUN_LOG__FORMAT": "json"})
        process, seconds = (server.url, server.process.pid)[1], given.count * given.timeout
        try:
            with server.client() as client:
                client.get("/calls/spin")
            until(lambda: len(cells(process)) == 1)
            before = descriptors(process)
            late: list[float] = []

            def loops(path: str) -> Callable[[httpx.Client], None]:
                def work(client: httpx.Client) -> None:
                    for _ in range(given.count):
                        began = time.perf_counter()
                        assert client.get(path).status_code == 504
                        late.append((time.perf_counter() - began - given.timeout) * 1000)

                return work

            quiet = shown("quiet", quick_while(server, lambda _: time.sleep(seconds)))
            for path in ("/calls/spin", "/calls/regex"):
                p99 = shown(f"{given.count} of {path}", quick_while(server, loops(path)))
                print(f"{'':24} p99 is {p99 / quiet:.1f} times the quiet one")
                shown("  answered after timeout", late)
                late.clear()
            until(lambda: len(cells(process)) == 1)
            until(lambda: descriptors(process) <= before + 1)
            print("nothing is left: one zygote, and as many descriptors as before")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
