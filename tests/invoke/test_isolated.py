"""Calls of isolated functions through the invoker: what they are given, what comes back, and when none can be run."""

import asyncio
import os
import sys
from datetime import UTC, datetime

import msgspec
import pytest

from runtime.base.errors import NoCell
from runtime.base.ids import new_run_id, trace_of
from runtime.base.sections import IsolationSettings, Settings
from runtime.invoke.invocation import Invocation
from runtime.invoke.invoker import Invoker
from runtime.invoke.isolation.surroundings import clean_surroundings, isolated_of
from runtime.projects import load_project
from tests.invoke.test_cells import eventually, is_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

FUNCTIONS = """
import asyncio, os, time
from datetime import datetime
from functions._lifespan import Box, Clock
from runtime import Context, Tick, fn

KEPT = []
NEEDED = os.environ.get("NEEDED", "nothing")

@fn(isolation="process")
async def pid(box: Box, when: datetime, clock: Clock, blob: bytes, tick: Tick, ctx: Context, more: int = 7):
    left = (ctx.deadline.timestamp() - time.time())
    return [os.getpid(), box, when, clock.opened, blob, tick.missed, ctx.attempt, ctx.is_run, 0 < left < 11, more]

@fn(isolation="process", memory="32MB")
def grow(count: int):
    KEPT.append(bytearray(count))
    return os.getpid()

@fn(isolation="process")
async def nap(length: float):
    await asyncio.sleep(length)
    return os.getpid()

@fn(isolation="process")
def told(ctx: Context):
    for number in range(3):
        ctx.progress(number)

@fn(isolation="process")
def leave_child():
    import subprocess
    return subprocess.Popen(["sleep", "61"]).pid

@fn(isolation="process")
async def cleans_up(path: str):
    try:
        await asyncio.sleep(60)
    finally:
        open(path, "w").close()
"""
LIFESPAN = """
import msgspec, os
from collections.abc import AsyncIterator
from runtime import resource

class Box(msgspec.Struct):
    n: int

class Clock:
    opened = 0

@resource
async def clock() -> AsyncIterator[Clock]:
    if os.path.exists("stopped"):
        raise OSError("it stands still")
    found = Clock()
    found.opened += 1
    yield found
"""


@pytest.fixture
async def called(write_project, monkeypatch):
    """Makes a caller of the functions, as a process with such settings has it."""
    root = write_project(**{"functions/apart.py": FUNCTIONS, "functions/_lifespan.py": LIFESPAN})
    monkeypatch.chdir(root)
    opened = []

    def make(**settings):
        registry = load_project(root).registry
        assert registry.failures == ()
        functions = registry.functions
        isolated = isolated_of(root, Settings(isolation=IsolationSettings(**settings)))
        invoker = Invoker(threads=2, isolated=isolated)
        invoker.adopt(functions.values())
        opened.append((isolated, invoker))

        async def call(name, *, seconds=10.0, attempt=1, report=None, **arguments):
            run_id = new_run_id()
            return await invoker.invoke(
                Invocation(
                    function=functions[f"apart.{name}"],
                    trigger="test",
                    arguments=arguments,
                    run_id=run_id,
                    trace=trace_of(run_id, None),
                    timeout_seconds=seconds,
                    attempt=attempt,
                    report=report,
                )
            )

        return call

    yield make
    for isolated, invoker in opened:
        await isolated.aclose()
        invoker.threads.close()


def value_of(outcome):
    assert outcome.error is None
    return msgspec.json.decode(outcome.value)


async def test_it_is_given_what_it_declares(called):
    call = called()
    from functions._lifespan import Box  # the one that is loaded

    when = datetime(2030, 1, 1, tzinfo=UTC)
    given = {"box": Box(3), "when": when, "blob": b"\0\xff"}
    outcome = await call("pid", attempt=2, report=lambda _: None, **given)
    pid, *others = value_of(outcome)
    assert others == [{"n": 3}, "2030-01-01T00:00:00Z", 1, "AP8=", 0, 2, True, True, 7]
    again = value_of(await call("pid", more=8, **given))
    assert (again[0], again[3], again[7], again[9]) == (pid, 1, False, 8)
    assert pid != os.getpid()
    bad = await call("pid", box=object(), when=when, blob=b"")
    assert (bad.state, type(bad.error).__name__) == ("failed", "BindingFailed")


async def test_it_tells_of_its_progress_in_order(called):
    said = []
    assert (await called()("told", report=said.append)).value is None
    assert said == [b"0", b"1", b"2"]


async def test_what_it_keeps_counts_until_its_process_is_replaced(called):
    call = called()
    first = value_of(await call("grow", count=20_000_000))
    assert value_of(await call("grow", count=1000)) == first
    failed = await call("grow", count=40_000_000)
    assert isinstance(failed.error, MemoryError)
    assert value_of(await call("grow", count=20_000_000)) == first
    assert value_of(await call("grow", count=1000)) != first


async def test_a_child_that_it_leaves_ends(called):
    call = called()
    pid = value_of(await call("leave_child"))
    await eventually(lambda: is_gone(pid))


async def test_an_async_handler_cleans_up_before_it_is_killed(called, tmp_path):
    call = called()
    outcome = await call("cleans_up", path=str(tmp_path / "cleaned"), seconds=0.3)
    assert (outcome.state, outcome.reason) == ("failed", "timeout")
    assert (tmp_path / "cleaned").exists()


async def test_a_call_waits_for_a_process_in_its_time_and_a_run_as_long_as_it_takes(called):
    call = called(processes=1)
    await call("nap", length=0.0)
    busy = asyncio.create_task(call("nap", length=2.5))
    await asyncio.sleep(0)
    late = await call("told", seconds=0.5)
    assert isinstance(late.error, NoCell)
    assert late.reason == "error"
    assert (await call("told", seconds=2.0, report=lambda _: None)).state == "succeeded"
    assert (await busy).state == "succeeded"


async def test_a_cancelled_call_ends_its_process(called):
    call = called()
    pid = value_of(await call("nap", length=0.0))
    long = asyncio.create_task(call("nap", length=60.0))
    await asyncio.sleep(0.1)
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    assert is_gone(pid)


async def test_a_resource_that_does_not_open_is_an_error_of_the_call(called, tmp_path):
    call = called()
    (tmp_path / "stopped").touch()
    failed = await call("nap", length=0.0)
    assert (failed.reason, type(failed.error).__name__) == ("error", "StartError")
    assert "it stands still" in str(failed.error)
    (tmp_path / "stopped").unlink()
    assert (await call("nap", length=0.0)).state == "succeeded"


async def test_a_file_that_needs_more_than_a_clean_environment_says_so(called, write_project, monkeypatch):
    monkeypatch.setenv("NEEDED", "here")
    write_project(**{"functions/apart.py": FUNCTIONS.replace('environ.get("NEEDED", "nothing")', 'environ["NEEDED"]')})
    failed = await called()("nap", length=0.0)
    assert type(failed.error).__name__ == "NotLoaded"
    assert "functions/apart.py" in str(failed.error)
    assert "[isolation] env" in str(failed.error)
    assert (await called(env=("NEEDED",))("nap", length=0.0)).state == "succeeded"


def test_a_clean_environment_has_what_programs_need_and_what_is_named():
    given = {"PATH": "/bin", "LC_ALL": "C", "PYTHONPATH": "x", "AWS_SECRET": "s", "DB": "d", "FNRUN_STORE__URL": "u"}
    keys = {"FNRUN_SECRET_KEY": "k", "FNRUN_SECRET_KEY_FILE": "f", "FNRUN_STORE__PASSWORD": "p"}
    found = clean_surroundings(given | keys, ("DB", "FNRUN_STORE__URL"))
    assert found.environ == {"PATH": "/bin", "LC_ALL": "C", "PYTHONPATH": "x", "DB": "d"}
    assert found.given == b'{"FNRUN_STORE__URL":"u"}'
    sealed = clean_surroundings({"FNRUN_STORE__URL": "enc:v1:x:y"}, store_url="redis://open")
    assert sealed.given == b'{"FNRUN_STORE__URL":"redis://open"}'
