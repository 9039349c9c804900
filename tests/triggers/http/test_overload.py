"""Who is let in while more comes than can be done: the pace beside a simulated loop; and raw requests, read."""

import asyncio
import random
import time
from collections import deque
from contextvars import copy_context

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.invoke.threads.pool import Threads
from runtime.triggers.http.shedding.overload import Overload
from runtime.triggers.http.shedding.pace import Pace
from runtime.triggers.http.wire.heads import Reader
from runtime.triggers.http.wire.requests import Limits
from tests.live_servers import until

REFUSAL_SECONDS = 0.00001
SLICE_SECONDS = 0.005


class Loop:
    """A sliced loop with requests that cost CPU: it looks at what came, begins or refuses it, and works a slice."""

    def __init__(self, cost: float, seed: int, wait: float = 0.0) -> None:
        self.pace, self.cost, self.wait = Pace(), cost, wait
        self.ready: deque[float] = deque()  # since when
        self.waiting: deque[float] = deque()  # when they are to compute
        self.random = random.Random(seed)
        self.now = self.worked = self.longest = 0.0
        self.refused_at = -1.0
        self.begun = self.refused = 0

    def run(self, rate: float, seconds: float) -> "Loop":  # noqa: C901 - a turn of a loop, in its order
        """Let so much come for so long; the counts are of this time alone. longest: that anybody waited to compute."""
        end, coming = self.now + seconds, self.now + self.random.expovariate(rate)
        self.begun = self.refused = 0
        self.worked = self.longest = 0.0
        while self.now < end:
            over, refused = self.now, 0
            if not self.ready:
                self.now = max(self.now, min(coming, self.waiting[0]) if self.waiting else coming)
            began = self.now
            while coming <= began:
                coming += self.random.expovariate(rate)
                if self.pace.take():
                    self.begun += 1
                    (self.waiting if self.wait else self.ready).append(began + self.wait)
                else:
                    refused += 1
            while self.waiting and self.waiting[0] <= self.now:
                self.ready.append(self.waiting.popleft())
            self.now += refused * REFUSAL_SECONDS + 0.00005
            worked, ended = 0.0, 0
            while self.ready and worked < SLICE_SECONDS:
                self.longest = max(self.longest, self.now + worked - self.ready.popleft())
                worked += self.random.uniform(0.5, 1.5) * self.cost
                ended += 1
            self.now += worked
            unbegun = 0 if self.wait else len(self.ready)
            delay = max(self.now - self.ready[0], unbegun * self.pace.cost) if self.ready else 0.0
            self.pace.measure(self.now - over, self.now - began, worked, ended, delay, len(self.ready))
            self.worked += worked
            self.refused += refused
            if refused:
                self.refused_at = self.now
            elif self.now - self.refused_at > 0.5:
                self.pace.relax()
        return self


costs = st.floats(0.0005, 0.006)
seeds = st.integers(0, 10_000)


@settings(max_examples=10, deadline=None)
@given(costs, st.floats(0.1, 0.8), seeds)
def test_nobody_is_refused_below_the_capacity(cost: float, load: float, seed: int):
    assert Loop(cost, seed).run(load / cost, 5).refused == 0


@settings(max_examples=10, deadline=None)
@given(costs, st.floats(1.5, 6), seeds)
def test_above_it_the_loop_works_on_and_nobody_waits_for_long(cost: float, load: float, seed: int):
    loop = Loop(cost, seed)
    loop.run(load / cost, 3)
    loop.run(load / cost, 3)
    assert loop.refused > 0
    assert loop.worked / 3 > 0.9 / (1 + (load - 1) * REFUSAL_SECONDS / cost)
    assert loop.longest < 0.1


@settings(max_examples=6, deadline=None)
@given(costs, st.floats(2, 6), seeds)
def test_once_it_is_over_nobody_is_refused_any_more(cost: float, load: float, seed: int):
    loop = Loop(cost, seed)
    loop.run(load / cost, 3)
    for _ in range(5):  # while it sheds, some of a crowd that came by chance may be refused, and it sheds on
        if not loop.run(0.6 / cost, 2).refused:
            break
    assert not loop.pace.shedding
    assert loop.run(0.6 / cost, 3).refused == 0


@settings(max_examples=8, deadline=None)
@given(st.floats(0.0008, 0.004), st.floats(0.005, 0.2), st.floats(2, 6), seeds)
def test_where_calls_wait_before_they_compute_the_loop_works_on(cost: float, wait: float, load: float, seed: int):
    loop = Loop(cost, seed, wait)
    loop.run(load / cost, 8)
    loop.run(load / cost, 4)
    assert loop.refused > 0
    assert loop.worked / 4 > 0.8
    assert loop.longest < 0.25


@settings(max_examples=6, deadline=None)
@given(st.floats(0.0008, 0.004), st.floats(0.005, 0.5), st.floats(0.1, 0.7), seeds)
def test_nobody_is_refused_below_the_capacity_where_calls_wait_first(cost: float, wait: float, load: float, seed: int):
    assert Loop(cost, seed, wait).run(load / cost, 4).refused == 0


@settings(max_examples=4, deadline=None)
@given(st.floats(0.5, 3), st.floats(2, 5), seeds)
def test_calls_that_wait_for_long_do_not_come_in_waves(wait: float, load: float, seed: int):
    loop = Loop(0.002, seed, wait)
    loop.run(load / loop.cost, 12)
    assert loop.run(load / loop.cost, 20).worked / 20 > 0.6


def measure(pace: Pace, seconds: float, ended: int, idle: float = 0.0) -> None:
    pace.measure(seconds + idle, seconds, seconds, ended, 0.0, 0)


def test_those_that_only_wait_are_never_too_many():
    pace = Pace()
    for _ in range(400):  # 10,000 that wait for a database, and none ends
        assert all(pace.take() for _ in range(25))
        measure(pace, 25 * 0.0001, 0, 0.001)


def test_those_that_only_wait_are_let_in_again_after_an_overload():
    pace = Pace()
    for _ in range(100):
        while pace.take():
            pass
        pace.measure(0.006, 0.006, 0.005, 2, 0.05, 9)
    taken = 0
    for _ in range(100):  # the loop has little to do now, and none of these ends
        taken += sum(pace.take() for _ in range(10))
        pace.measure(0.01, 0.001, 0.001, 0, 0.0, 0)
    assert taken > 200


def test_somebody_is_let_in_whatever_else_the_loop_does():
    pace, taken = Pace(), 0
    for _ in range(400):
        while pace.take():
            taken += 1
        pace.measure(0.01, 0.01, 0.01, 0, 2.0, 200)  # others' work waits for 2 s, and none of ours ends
    assert 60 < taken - 500 < 100  # 500: before anything was known


def test_a_burst_is_no_overload():
    pace = Pace()
    measure(pace, 0.0, 0)
    for _ in range(20):
        assert all(pace.take() for _ in range(200))  # 200 connections of a client that waits for its answers
        measure(pace, 0.1, 200)


def test_a_client_with_as_many_connections_as_one_has_is_none_either_however_slow_the_machine_is():
    pace = Pace()
    for _ in range(100):
        assert all(pace.take() for _ in range(3))
        pace.measure(0.06, 0.06, 0.06, 3, 1.3, 61)  # 64 connections, 20 ms a call
    assert not pace.shedding


def test_what_was_measured_is_known_after_an_hour():
    pace = Pace()
    for _ in range(20):
        assert pace.take()
        measure(pace, 0.01, 1)
    measure(pace, 0.0, 0, idle=3600)
    assert sum(pace.take() for _ in range(1000)) == 128


def test_a_round_with_an_import_in_it_refuses_none_of_the_next():
    pace = Pace()
    for seconds in (0.001, 2.0, 0.5):
        assert pace.take()
        measure(pace, seconds, 1)
        assert sum(pace.take() for _ in range(64)) == 64
        measure(pace, 0.02, 64)


def test_few_are_taken_in_where_each_holds_the_loop_for_long_but_some_are():
    pace = Pace()
    for _ in range(10):
        taken = sum(pace.take() for _ in range(1000))
        measure(pace, taken * 0.3, taken)
    assert 1 <= taken <= 3
    assert pace.shedding


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (b"GET /a?b=1 HTTP/1.1\r\nHost: a\r\n\r\n", ("GET", b"/a?b=1", 0)),
        (b"DELETE / HTTP/1.1\r\nhost: a\r\nConnection: Keep-Alive\r\n\r\n", ("DELETE", b"/", 0)),
        (b"POST /a HTTP/1.1\r\nHost: a\r\ncontent-length: 3 \r\nX: y\r\n\r\nabc", ("POST", b"/a", 3)),
        (b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\nabc", ("POST", b"/a", 30_000)),
    ],
)
def test_a_plain_request_is_read_from_its_bytes(sent: bytes, read: tuple[str, bytes, int]):
    reader = Reader(Limits())
    for _ in range(2):  # read, and as it is kept
        head = reader.read(sent)
        assert head is not None
        assert (head.method, head.target, head.lines.length) == read
        assert sent[: head.size].endswith(b"\r\n\r\n")
        assert head.lines.keep
        assert not head.lines.later


def test_what_a_head_says_of_its_connection_and_its_answer_is_told():
    reader = Reader(Limits())
    head = reader.read(b"GET / HTTP/1.1\r\nHOST:\ta \r\nConnection: CLOSE\r\nPrefer: respond-async\r\n\r\nGET /")
    assert head is not None
    assert head.lines.headers == ((b"host", b"a"), (b"connection", b"CLOSE"), (b"prefer", b"respond-async"))
    assert (head.lines.keep, head.lines.later) == (False, True)


def test_the_limits_of_a_head_hold_for_what_is_read_here():
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\n"
    assert Reader(Limits(head_bytes=len(head), header_lines=2, target_bytes=17)).read(head) is not None
    assert Reader(Limits(head_bytes=len(head) - 1)).read(head) is None
    assert Reader(Limits(header_lines=1)).read(head) is None
    assert Reader(Limits(target_bytes=13)).read(head) is None


def test_what_is_kept_of_header_lines_is_bounded():
    reader = Reader(Limits())
    for number in range(2_000):
        assert reader.read(b"GET / HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % number) is not None
    assert reader.read(b"GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"x" * 2_000)) is not None
    assert len(reader._kept) <= 512
    assert max(map(len, reader._kept)) <= 1_024


@pytest.mark.parametrize(
    "sent",
    [
        b"", b"GET / HTTP/1.1\r\nHost: a\r\n", b"GET / HTTP/1.1\r\nHost: a\n\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n a: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\x00\r\n\r\n", b"GET / HTTP/1.1\r\nHost: \xe4\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 16 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-length: 1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length : 2\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)  # fmt: skip
def test_where_there_is_any_doubt_it_is_left_to_the_parser(sent: bytes):
    reader = Reader(Limits())
    assert reader.read(sent) is None
    assert reader.read(sent) is None


def test_what_looks_plain_and_never_ends_is_read_in_linear_time():
    head = b"GET / HTTP/1.1\r\n" + b"Connection: keep-alive\r\n" * 600 + b"x" * 2000
    started = time.perf_counter()
    for _ in range(20):
        assert Reader(Limits()).read(head + b"\r\n\r\n") is None
    assert time.perf_counter() - started < 2


async def test_health_and_operators_are_never_refused():
    overload = Overload(shed=True, work_of=lambda _, path: "none" if path.startswith("/_/") else "loop")
    found = [overload.judge("GET", b"/f?x=1") for _ in range(2000)]
    assert found[-1] == "busy"
    assert overload.judge("GET", b"/_/health") is None
    assert overload.refused["busy"] == found.count("busy") > 0


async def test_only_who_wants_a_thread_is_refused_for_want_of_one():
    overload = Overload(
        shed=True, threads_full=lambda: True, work_of=lambda _, path: "thread" if "s" in path else "loop"
    )
    assert overload.judge("GET", b"/s") == "threads"
    assert overload.judge("GET", b"/a?s=1") is None
    assert overload.judge("POST", b"/s", later=True) is None


async def test_without_the_setting_nobody_is():
    overload = Overload(threads_full=lambda: True)
    assert {overload.judge("GET", b"/f") for _ in range(2000)} == {None}


async def test_threads_are_crowded_once_the_wait_is_long():
    threads, loop = Threads(2), asyncio.get_running_loop()
    for _ in range(40):
        threads.start(lambda: time.sleep(0.002), copy_context())
    assert not threads.are_crowded()  # a queue of 40 ms
    await asyncio.wait_for(asyncio.wrap_future(threads.start(lambda: None, copy_context()), loop=loop), 10)
    hold = [threads.start(lambda: time.sleep(1.5), copy_context()) for _ in range(4)]
    await loop.run_in_executor(None, lambda: until(threads.are_crowded))  # none has begun for a while
    await asyncio.wait_for(asyncio.wrap_future(hold[-1], loop=loop), 10)
    assert not threads.are_crowded()
    threads.close()
