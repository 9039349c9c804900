"""The watchdog on a loop of its own, and the pulse as both sides see it."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import FrameType, SimpleNamespace
from typing import cast

import pytest
from structlog.testing import LogCapture

from runtime.base.ids import trace_of
from runtime.base.pulse import Pulse, Silence
from runtime.declare.context import Context, current
from runtime.invoke.execute import run_in_thread
from runtime.invoke.threads.pool import Threads
from runtime.invoke.watchdog import Culprit, OnStuck, Watchdog, is_debugged, stack_of
from tests.live_servers import until

RUN = "0" * 32


def context() -> Context:
    return Context(
        run_id=RUN, function="f", trigger="cli", attempt=1, env={}, trace=trace_of(RUN, None), started_at=0.0,
        timeout_seconds=None,
    )  # fmt: skip


async def hold(seconds: float) -> None:
    current.set(context())
    await asyncio.create_task(blocks(seconds))


async def blocks(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - that is the fault


def watch(on_stuck: OnStuck | None = None, limit_seconds: float = 0.0) -> Watchdog:
    watchdog = Watchdog(warn_seconds=0.25, limit_seconds=limit_seconds, on_stuck=on_stuck)
    watchdog.begin()
    watchdog.serve()
    return watchdog


async def test_who_holds_the_loop_is_named_once_and_so_is_the_end(log: LogCapture):
    watchdog = watch()
    await asyncio.create_task(hold(1.5))
    await asyncio.to_thread(until, lambda: len(log.entries) == 2)
    watchdog.end()
    held, goes_on = log.entries
    assert (held["function"], held["run_id"], held["log_level"]) == ("f", RUN, "error")
    assert "in blocks" in held["stack"]
    assert (goes_on["event"], goes_on["function"]) == ("the event loop goes on", "f")


async def test_a_loop_that_turns_is_left_alone(log: LogCapture):
    watchdog = watch()
    for _ in range(10):
        await asyncio.sleep(0.1)
    watchdog.end()
    assert [one for one in log.entries if one["log_level"] == "error"] == []


async def test_a_task_with_a_name_is_told_by_it(log: LogCapture):
    watchdog = watch()
    await asyncio.create_task(blocks(1.5), name='resource "db"')
    await asyncio.to_thread(until, lambda: len(log.entries) == 2)
    watchdog.end()
    assert [(one["task"], "function" in one) for one in log.entries] == [('resource "db"', False)] * 2


async def test_a_start_may_hold_the_loop_for_as_long_as_it_takes(log: LogCapture):
    told: list[Culprit] = []
    pulse = Pulse.make()

    def on_stuck(culprit: Culprit, seconds: float) -> bool:
        told.append(culprit)
        return False

    watchdog = Watchdog(warn_seconds=0.25, limit_seconds=0.5, pulse=pulse, on_stuck=on_stuck)
    watchdog.begin()
    await blocks(1.5)
    await asyncio.to_thread(until, lambda: len(log.entries) == 2)
    assert (told, pulse.beats) == ([], 0)
    watchdog.serve()
    assert pulse.beats
    watchdog.end()
    await asyncio.to_thread(until, lambda: not pulse.beats)
    pulse.close()


async def test_who_has_something_against_the_end_is_heard(log: LogCapture):
    told: list[Culprit] = []

    def on_stuck(culprit: Culprit, seconds: float) -> bool:
        told.append(culprit)
        return False

    watch(on_stuck, limit_seconds=0.5)
    await asyncio.create_task(hold(2.0))
    assert told == [Culprit("f", RUN)]


async def test_code_that_a_debugger_follows_is_not_ended():
    ended = threading.Event()

    def on_stuck(culprit: Culprit, seconds: float) -> bool:
        ended.set()
        return False

    watchdog = watch(on_stuck, limit_seconds=0.5)
    sys._getframe().f_trace = lambda *_: None
    await blocks(1.5)
    watchdog.end()
    sys._getframe().f_trace = None
    assert not ended.is_set()


def test_coverage_is_no_debugger():
    def trace() -> None: ...

    trace.__module__ = "coverage.tracer"
    assert is_debugged(cast("FrameType", SimpleNamespace(f_trace=print, f_back=None)))
    assert not is_debugged(cast("FrameType", SimpleNamespace(f_trace=trace, f_back=None)))


def test_a_stack_of_nobody_is_empty():
    assert stack_of(None) == ""


ORPHAN = """
import asyncio, re, signal
from runtime.invoke import watchdog

watchdog._ORPHAN_SECONDS = 0.0

async def main():
    watched = watchdog.Watchdog(warn_seconds=60.0, limit_seconds=0.5)
    watched.begin()
    watched.serve()
    while not signal.getitimer(signal.ITIMER_VIRTUAL)[0]:
        await asyncio.sleep(0.01)
    print("held", flush=True)
    re.match("(a+)+$", "a" * 60 + "b")

asyncio.run(main())
"""


def test_a_process_whose_interpreter_is_held_ends_though_nobody_looks_after_it():
    done = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("held\n", -signal.SIGVTALRM)


async def test_the_kernel_does_not_end_what_is_watched_no_longer():
    watchdog = watch(limit_seconds=0.5)
    await asyncio.to_thread(until, lambda: signal.getitimer(signal.ITIMER_VIRTUAL)[0])
    watchdog.end()
    await asyncio.to_thread(until, lambda: not signal.getitimer(signal.ITIMER_VIRTUAL)[0])


# --- the pulse -----------------------------------------------------------------------------------------------------


def test_a_silence_is_counted_in_looks_and_begins_anew_with_each_beat():
    silence = Silence(0.5)
    assert [silence.look(beats, frozen=False) for beats in (0, 0, 1, 1, 1, 2, 2)] == [0, 0, 0, 0.5, 1.0, 0, 0.5]
    assert silence.look(2, frozen=True) == 0.0
    assert silence.look(0, frozen=False) == 0.0


CHILD = """
import re, sys
from runtime.base.pulse import Pulse
pulse = Pulse.inherited(int(sys.argv[1]))
pulse.beat()
pulse.beat()
re.match("(a+)+$", "a" * 60 + "b")
"""


def test_a_child_whose_interpreter_is_held_still_writes_its_stacks(tmp_path):
    (tmp_path / "child.py").write_text(CHILD)
    pulse = Pulse.make()
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "child.py"), str(pulse.fd)], pass_fds=[pulse.fd]
    ) as child:  # fmt: skip
        try:
            until(lambda: pulse.beats == 2)
            pulse.ask_for_stacks(child.pid)
            stacks = until(pulse.stacks)
        finally:
            child.kill()
    assert "child.py" in str(stacks)
    fd = pulse.fd
    pulse.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


# --- threads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "worn"), [(2, True), (3, False)])
async def test_threads_are_worn_out_when_half_of_them_are_left_for_long(limit, worn, monkeypatch):
    monkeypatch.setattr("runtime.invoke.threads.pool._LONG_SECONDS", -1.0)
    threads, go = Threads(limit), threading.Event()
    with suppress(TimeoutError):
        await run_in_thread(threads, go.wait, 0.05)
    assert threads.worn_out is worn
    go.set()
    until(lambda: not threads.busy and not threads.worn_out)
    threads.close()
