"""Measure the HTTP servers in turn, round by round.

Called by compare's command. In each round every server is started, checked, measured, checked again and ended, alone on
its core; the one that is first changes, so that drift falls on all.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from benchmarks.compare import processes
from benchmarks.compare.environments import OURS, NotInstalledError, requirements
from benchmarks.compare.processes import HOST, BenchmarkError
from benchmarks.compare.results import Results
from benchmarks.compare.web import clients
from benchmarks.compare.web.cases import ASKED, BODIES, CASES, QUICK, RATES, TWICE, belongs, check
from benchmarks.compare.web.servers import ROUTES, SERVERS, Running, find_program, serve
from benchmarks.load import request_bytes

PART = "http"
IDLE_CONNECTIONS = 1000
_CALM = ("start", "memory", "idle")  # before there is any load, which leaves memory that is free but not given back
_RATE_LIMITS = (500.0, 4000.0)  # a client in Python keeps time up to here


class Plan(NamedTuple):
    """What is to be done. seconds: a measurement; rate: of "late", None for half of what Starlette does."""

    servers: list[str]
    cases: list[str]
    rounds: int
    seconds: float
    connections: int
    rate: float | None


def measure(plan: Plan, results: Results, *, resume: bool) -> None:
    """Fill the results; each figure is there as soon as it is known."""
    cores = processes.pick_cores()
    programs = _find_programs(plan, results)
    rate = plan.rate or (_pick_rate(programs, cores, results, resume=resume) if "late" in plan.cases else 0)
    settings = {"seconds": plan.seconds, "connections": plan.connections, "pinned": cores[0] is not None}
    for case in plan.cases:
        more = {"rate": rate} if case == "late" else {}
        results.begin(PART, {case: CASES[case]}, {**settings, **more}, resume=resume)
    names = list(programs)
    for number in range(plan.rounds):
        first = number % max(1, len(names))
        for name in names[first:] + names[:first]:
            wanted = [
                case
                for case in plan.cases
                if belongs(case, name, limit=SERVERS[name].limit, without=SERVERS[name].without)
                and (number < 2 or case not in TWICE)
                and not results.has(f"{PART}.{case}", name, number)
            ]
            _Turn(name, number, plan, rate, results).take(programs[name], cores, wanted)


def _find_programs(plan: Plan, results: Results) -> dict[str, str]:
    programs, passed_over = {}, {}
    for name in plan.servers:
        try:
            programs[name] = find_program(name)
        except NotInstalledError as error:
            print(f"{name} is passed over: {error}", flush=True)
            passed_over[name] = str(error)
    notes = {
        name: "; ".join((SERVERS[name].note, " ".join(requirements(SERVERS[name].environment or OURS)))).rstrip("; ")
        for name in programs
    }
    client = "wrk" if clients.WRK else "benchmarks/load.py, which may be the slower side"
    again = dict.fromkeys(programs)
    results.part(PART, servers=notes, passed_over=again | passed_over, failed=again, client=client)
    return programs


def _pick_rate(
    programs: dict[str, str], cores: tuple[int | None, int | None], results: Results, *, resume: bool
) -> float:
    """One that all of the asynchronous servers should bear: half of what Starlette does at most."""
    known = results.cases.get(f"{PART}.late", {}).get("settings", {}).get("rate")
    if resume and known:
        return float(known)
    least, most = _RATE_LIMITS
    if "starlette" not in programs:
        return (least + most) / 2
    with serve("starlette", programs["starlette"], cores[0]) as running:
        found = clients.count_requests(cores[1], running.port, ASKED["get"], 64, 1)
    return min(max(found / 2, least), most) // 100 * 100


class TooManyConnectionsError(BenchmarkError):
    """It does not keep them; what else is measured of it stands."""


class _Turn:
    """One server in one round."""

    def __init__(self, name: str, number: int, plan: Plan, rate: float, results: Results) -> None:
        self.name, self.number, self.plan, self.rate, self.results = name, number, plan, rate, results

    def take(self, program: str, cores: tuple[int | None, int | None], wanted: list[str]) -> None:
        """Measure what is wanted. A fault ends this server's turn, is told, and leaves the others theirs."""
        try:
            plain = [case for case in wanted if case != "routes"]
            if "start" in plain and not self.number:
                with serve(self.name, program, cores[0]):  # its bytecode is written now, and its files are in memory
                    pass
            if plain:
                with serve(self.name, program, cores[0]) as running:
                    self._measure(running, cores[1], plain)
            if "routes" in wanted:
                with serve(self.name, program, cores[0], routes=ROUTES) as running:
                    self._measure(running, cores[1], ["routes"])
        except BenchmarkError as error:
            if self.name == OURS:
                raise
            self._fail(error)

    def _fail(self, error: BenchmarkError) -> None:
        print(f"round {self.number + 1}: {self.name}: {error}", flush=True)
        self.results.part(PART, failed={self.name: str(error).splitlines()[0]})

    def _measure(self, running: Running, core: int | None, cases: list[str]) -> None:
        asked = [case for case in cases if case in ASKED]
        validates = self.name != "nginx" and "post" in cases
        check(running.port, asked, validates=validates)
        shown = []
        calm = [case for case in _CALM if case in cases]
        loaded = [case for case in cases if case not in calm]
        for case in (*calm, *loaded):
            if loaded and case == loaded[0] and case in RATES:  # to warm up
                clients.count_requests(core, running.port, ASKED[case], self.plan.connections, 1)
            try:
                figure = self._figure(running, core, case)
            except TooManyConnectionsError as error:
                self._fail(error)
                continue
            self.results.add(f"{PART}.{case}", self.name, self.number, figure)
            shown.append(f"{case} {figure:,.{2 if figure < 100 else 0}f}")
        check(running.port, asked, validates=validates)
        print(f"round {self.number + 1}: {self.name}: {'  '.join(shown)}", flush=True)

    def _figure(self, running: Running, core: int | None, case: str) -> float:
        if case == "start":
            return running.start_seconds
        if case == "memory":
            return processes.memory_mb(running.pid)
        if case == "idle":
            return _weigh_connections(running)
        if case == "late":
            return clients.measure_lateness(core, running.port, running.pid, ASKED["get"], self.rate, self.plan.seconds)
        if case in BODIES:
            return clients.count_megabytes(core, running.port, case, ASKED[case], self.plan.seconds)
        assert case in RATES
        return clients.count_requests(core, running.port, ASKED[case], self.plan.connections, self.plan.seconds)


def _weigh_connections(running: Running) -> float:
    """kB that each of 1,000 connections takes which have been answered once and stay open."""
    with _opened(running.port, 50):  # what the first ones bring along is no connection's own
        pass
    before = processes.memory_mb(running.pid)
    with _opened(running.port, IDLE_CONNECTIONS):
        return max(0.0, (processes.memory_mb(running.pid) - before) * 1000 / IDLE_CONNECTIONS)


@contextmanager
def _opened(port: int, count: int) -> Iterator[None]:
    """So many connections, each answered once."""
    request = request_bytes("GET", "/hello?name=x")
    with ExitStack() as stack:
        try:
            for _ in range(count):
                sock = stack.enter_context(socket.create_connection((HOST, port), timeout=10))
                sock.sendall(request)
                if not sock.recv(65536):
                    raise BenchmarkError("it closes connections that are kept open")
        except OSError as error:
            raise TooManyConnectionsError(f"it does not keep {count} connections: {error!r}") from None
        yield


def default_cases(*, quick: bool) -> list[str]:
    return [case for case in CASES if not quick or case in QUICK]
