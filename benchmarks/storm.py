"""An open-loop load client: so many requests a second, however the server is doing, as the world outside does.

Called by overload.py as a process of its own. Only ever talks to 127.0.0.1. A request's time counts from when it was to
be sent, also if all connections were busy then; one that is not answered a second later is given up.

    python -P storm.py PORT SERVER PATH RATE SECONDS CONNECTIONS     prints one line of JSON

SERVER: its process, whose use of the CPU is told, its children's too, without the first second with its connections.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # last: a file here has the name of a standard module

from load import HOST, read_answer, request_bytes

GIVEN_UP_SECONDS = 1.0
TICK_SECONDS = 0.001
ONSET_SECONDS = 1.0


class Storm:
    """What is sent, and what came back. answers: (status, seconds after the start, seconds it took)."""

    def __init__(self, path: str) -> None:
        self.request = request_bytes("GET", path)
        self.free: deque[_Connection] = deque()
        self.waiting: deque[float] = deque()
        self.answers: list[tuple[int, float, float]] = []
        self.errors = self.given_up = 0
        self.started = self.stopped = 0.0

    def send(self, planned: float) -> None:
        if self.free:
            self.free.popleft().send(planned)
        else:
            self.waiting.append(planned)

    def on_free(self, connection: "_Connection") -> None:
        now = time.perf_counter()
        while self.waiting:
            planned = self.waiting.popleft()
            if now - planned < GIVEN_UP_SECONDS:
                connection.send(planned)
                return
            self.given_up += 1
        self.free.append(connection)


class _Connection(asyncio.Protocol):
    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self._data = b""
        self._planned: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._storm.free.append(self)

    def send(self, planned: float) -> None:
        self._planned = planned
        self._transport.write(self._storm.request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        answer = read_answer(self._data)
        if answer is None or self._planned is None:
            return
        self._data = self._data[answer[2] :]
        now = time.perf_counter()
        self._storm.answers.append((answer[0], self._planned - self._storm.started, now - self._planned))
        self._planned = None
        self._storm.on_free(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._storm.errors += not self._storm.stopped


async def make_storm(
    port: int, server: int, path: str, rate: float, seconds: float, connections: int
) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    storm = Storm(path)
    opened = [(await loop.create_connection(lambda: _Connection(storm), HOST, port))[0] for _ in range(connections)]
    storm.started = time.perf_counter()
    sent = sent_before = 0
    cpu = 0.0
    while (passed := time.perf_counter() - storm.started) < seconds:
        while sent < passed * rate:
            storm.send(storm.started + sent / rate)
            sent += 1
        if not cpu and passed >= ONSET_SECONDS:
            cpu, sent_before = cpu_seconds(server), sent
        await asyncio.sleep(TICK_SECONDS)
    cpu = cpu_seconds(server) - cpu
    await asyncio.sleep(GIVEN_UP_SECONDS)
    storm.stopped = time.perf_counter()
    for transport in opened:
        transport.abort()
    return {"sent": sent - sent_before, "cpu": cpu, **summary(storm, seconds, sent)}


def cpu_seconds(server: int) -> float:
    """That a process and those it has begun have used."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
            ticks[int(stat.parent.name)] = int(fields[11]) + int(fields[12])
    found = {server}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sum(ticks.get(pid, 0) for pid in found) / os.sysconf("SC_CLK_TCK")


def summary(storm: Storm, seconds: float, sent: int) -> dict[str, object]:
    """Rates a second; times in ms. The first second, in which an overload is noticed, counts by itself as "onset"."""
    late = [one for one in storm.answers if one[1] >= ONSET_SECONDS]
    good = sum(1 for status, _, took in late if status == 200 and took < GIVEN_UP_SECONDS)
    refused = [took for status, _, took in late if status in (429, 503)]
    accepted = [took for status, _, took in late if status == 200]
    onset = [took for status, at, took in storm.answers if status in (429, 503) and at < ONSET_SECONDS]
    return {
        "goodput": good / (seconds - ONSET_SECONDS),
        "good": good,
        "accepted_ms": quantiles(accepted),
        "refused_ms": quantiles(refused),
        "refused_onset_ms": quantiles(onset),
        "statuses": dict(Counter(str(status) for status, _, _ in storm.answers)),
        "unanswered": sent - len(storm.answers),
        "errors": storm.errors,
    }


def quantiles(values: list[float]) -> list[float]:
    """Median, 99th percentile, longest."""
    ordered = sorted(values) or [0.0]
    return [round(ordered[int((len(ordered) - 1) * part)] * 1000, 1) for part in (0.5, 0.99, 1)]


if __name__ == "__main__":
    import uvloop

    port, server, path, rate, seconds, connections = sys.argv[1:]
    made = make_storm(int(port), int(server), path, float(rate), float(seconds), int(connections))
    print(json.dumps(uvloop.run(made)))
