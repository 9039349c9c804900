"""Opening, handing out and closing what _lifespan.py declares; and its hooks."""

import asyncio
import threading
import time

import anyio
import pytest

from runtime.base.errors import StartError
from runtime.base.ids import new_run_id, trace_of
from runtime.invoke import resources as module
from runtime.invoke.invocation import Invocation
from runtime.invoke.invoker import Invoker
from runtime.invoke.resources import Resources
from runtime.projects import load_project

HEADER = """\
import asyncio, threading, time, contextvars, contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import *
import anyio
from runtime import *

seen = []

class closing_db:
    def __enter__(self): return "db"
    def __exit__(self, *error): pass
"""
NAMED = """
@resource
async def first():
    seen.append("open first")
    yield 1
    seen.append("close first")

@resource
def second(first):
    seen.append(f"open second on {first}")
    yield 2
    seen.append("close second")
"""
HOOKS = """
@startup
async def begin(second):
    seen.append(f"begin with {second}")

@startup
def begin_too():
    seen.append("begin too")

@shutdown
async def end(first):
    seen.append(f"end with {first}")

@shutdown
def end_too():
    seen.append("end too")
"""


@pytest.fixture
def load(write_project):
    """The registry of a project with this _lifespan.py and app.py; and what the first has `seen`."""

    def load(lifespan: str, app: str = ""):
        files = {"functions/_lifespan.py": HEADER + lifespan, "functions/app.py": "from runtime import *\n" + app}
        root = write_project()
        for name, text in files.items():
            (root / name).write_text(text)
        registry = load_project(root).registry
        assert registry.failures == ()
        import functions._lifespan as loaded

        return registry, loaded.seen

    return load


@pytest.fixture
def quick(monkeypatch):
    """Closing may take but a moment."""
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.05)


async def call(registry, resources: Resources, name: str = "app"):
    """What `app` returns."""
    invoker = Invoker(threads=2, resources=resources.opened)
    run_id = new_run_id()
    invocation = Invocation(
        function=registry.functions[name],
        trigger="test",
        arguments={},
        run_id=run_id,
        trace=trace_of(run_id, None),
        timeout_seconds=5,
    )
    outcome = await invoker.invoke(invocation)
    invoker.threads.close()
    assert outcome.error is None
    return outcome.value


async def until(condition) -> None:
    with anyio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - what changes sets no event
            await asyncio.sleep(0.01)


def told(log) -> list[tuple[str, str]]:
    return [(line["event"], line.get("what", line.get("function"))) for line in log.entries]


async def test_they_open_in_order_and_close_in_reverse_with_the_hooks_between(load):
    registry, seen = load(NAMED + HOOKS)
    async with Resources(registry.lifespan) as resources:
        assert seen == ["open first", "open second on 1", "begin with 2", "begin too"]
        assert dict(resources.opened) == {"first": 1, "second": 2}
        seen.clear()
    assert seen == ["end with 1", "end too", "close second", "close first"]
    assert (dict(resources.opened), resources.left) == ({}, 0)


async def test_a_project_without_any_has_none(load):
    registry, _ = load("")
    async with Resources(registry.lifespan) as resources:
        assert dict(resources.opened) == {}


KINDS = {
    "async generator": "@resource\nasync def db():\n    yield 'db'",
    "sync generator": "@resource\ndef db():\n    yield 'db'",
    "async manager": "@resource\n@asynccontextmanager\nasync def db():\n    yield 'db'",
    "sync manager": "@resource\n@contextmanager\ndef db():\n    yield 'db'",
    "by annotation": "@resource\ndef db() -> AbstractAsyncContextManager[str]:\n    return nullcontext('db')",
    "sync by annotation": "@resource\ndef db() -> AbstractContextManager[str]:\n    return closing_db()",
    "coroutine": "@resource\nasync def db() -> AbstractAsyncContextManager[str]:\n    return nullcontext('db')",
}  # fmt: skip


@pytest.mark.parametrize("lifespan", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_every_kind_is_given_to_every_kind_of_handler(load, lifespan, kind):
    app = f"@fn()\n{kind} handler(db, ctx: Context):\n    return [db, ctx.resources.db, ctx.resources['db']]"
    registry, _ = load(lifespan, app)
    async with Resources(registry.lifespan) as resources:
        assert await call(registry, resources) == ["db"] * 3


async def test_all_handlers_get_the_same_object(load):
    app = "@fn()\ndef sync(db: object): return db\n@fn()\nasync def other(db: object = INJECTED): return db\n"
    registry, _ = load("@resource\ndef db():\n    yield object()", app)
    async with Resources(registry.lifespan) as resources:
        found = [await call(registry, resources, name) for name in ("app.sync", "app.other", "app.sync")]
    assert found[0] is found[1] is found[2]


async def test_a_stream_gets_them_too(load):
    registry, _ = load(NAMED, "@fn()\nasync def handler(first, second):\n    yield first\n    yield second\n")
    async with Resources(registry.lifespan) as resources:
        assert [item async for item in await call(registry, resources)] == [1, 2]


async def test_one_is_entered_and_left_in_one_task_so_task_groups_work(load):
    registry, seen = load("""
@resource
async def group() -> AsyncIterator[anyio.abc.TaskGroup]:
    async with anyio.create_task_group() as group:
        with anyio.CancelScope():
            yield group
        group.cancel_scope.cancel()
    seen.append("closed")
""")
    async with Resources(registry.lifespan) as resources:
        resources.opened.group.start_soon(anyio.sleep_forever)
        await asyncio.sleep(0.01)
    assert seen == ["closed"]


async def test_a_sync_one_is_opened_and_closed_in_one_thread_and_one_context(load):
    registry, seen = load("""
here = contextvars.ContextVar("here")

@resource
def db():
    here.set("set")
    seen.append(threading.get_ident())
    yield
    seen.append(threading.get_ident())
    seen.append(here.get())
""")
    async with Resources(registry.lifespan):
        pass
    assert seen[0] == seen[1] != threading.get_ident()
    assert seen[2] == "set"


# --- what fails at the start -------------------------------------------------------------------------------------

START = [
    ("@resource\ndef bad(first):\n    raise OSError('refused')\n    yield", 'resource "bad"', "OSError: refused"),
    ("@resource\nasync def bad(first):\n    raise OSError('refused')\n    yield", 'resource "bad"', "OSError: refused"),
    ("@resource\nasync def bad():\n    raise SystemExit(3)\n    yield", 'resource "bad"', "SystemExit: 3"),
    ("@resource\ndef bad():\n    raise SystemExit(3)\n    yield", 'resource "bad"', "SystemExit: 3"),
    ("@resource\nasync def bad():\n    if 0: yield", 'resource "bad"', "RuntimeError: generator didn't yield"),
    ("@resource\ndef bad():\n    if 0: yield", 'resource "bad"', "RuntimeError: generator didn't yield"),
    ("@startup\ndef bad():\n    raise OSError('refused')", 'start-up hook "bad"', "OSError: refused"),
    ("@startup\nasync def bad():\n    raise SystemExit", 'start-up hook "bad"', "SystemExit"),
]


@pytest.mark.parametrize(("bad", "name", "reason"), START)
async def test_what_fails_names_itself_and_what_was_open_is_closed(load, log, bad, name, reason):
    registry, seen = load(NAMED + bad + HOOKS.replace("@startup", "@fn()"))
    resources = Resources(registry.lifespan)
    with pytest.raises(StartError) as error:
        await resources.open()
    assert str(error.value).startswith(f"{name} of functions/_lifespan.py:")
    assert str(error.value).endswith(f": {reason}")
    assert seen == ["open first", "open second on 1", "close second", "close first"]
    assert told(log) == [("prevents the start", name)]
    await resources.close()
    assert len(seen) == 4


@pytest.mark.parametrize(
    "slow",
    [
        "@resource\nasync def slow():\n    await asyncio.sleep(60)\n    yield",
        "@startup\nasync def slow():\n    await asyncio.sleep(60)",
    ],
)
@pytest.mark.parametrize("how", ["cancelled", "cancelled with a stop", "stopped"])
async def test_a_start_that_is_to_end_closes_what_is_open(load, slow, how):
    registry, seen = load(NAMED + slow)
    stop = None if how == "cancelled" else asyncio.Event()
    opening = asyncio.create_task(Resources(registry.lifespan).open(stop))
    await until(lambda: len(seen) == 2)
    await asyncio.sleep(0.05)
    if how == "stopped":
        stop.set()
        assert await opening is False
    else:
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    assert seen[2:] == ["close second", "close first"]


async def test_a_start_that_might_be_stopped_is_a_start(load):
    registry, _ = load(NAMED)
    resources = Resources(registry.lifespan)
    assert await resources.open(asyncio.Event()) is True
    assert resources.opened.second == 2
    await resources.close()
    registry, _ = load(NAMED + "@startup\ndef bad():\n    raise OSError('refused')")
    with pytest.raises(StartError, match="refused"):
        await Resources(registry.lifespan).open(asyncio.Event())


# --- and at the end ----------------------------------------------------------------------------------------------

BETWEEN = "\n@resource\ndef last():\n    yield\n    seen.append('close last')\n"
END = [
    ("async def bad():\n    yield\n    raise OSError('gone')", "failed to close"),
    ("def bad():\n    yield\n    raise OSError('gone')", "failed to close"),
    ("async def bad():\n    yield\n    raise SystemExit(3)", "failed to close"),
    ("async def bad():\n    yield 1\n    yield 2", "failed to close"),
    ("async def bad():\n    yield\n    await asyncio.sleep(60)", "takes too long to close and was left"),
    ("def bad():\n    yield\n    time.sleep(3)", "takes too long to close and was left"),
]


@pytest.mark.parametrize(("bad", "how"), END)
@pytest.mark.usefixtures("quick")
async def test_one_that_does_not_close_is_named_and_the_others_are_closed(load, log, bad, how):
    registry, seen = load(NAMED + "\n@resource\n" + bad + BETWEEN)
    resources = Resources(registry.lifespan)
    await resources.open()
    began = time.monotonic()
    await resources.close()
    assert time.monotonic() - began < 2.5
    assert seen[2:] == ["close last", "close second", "close first"]
    assert told(log) == [(how, 'resource "bad"')]
    assert resources.left == ("too long" in how)


async def test_one_that_swallows_its_cancellation_does_not_keep_the_others(load, log, quick):
    bad = """
@resource
async def bad():
    yield
    for _ in range(20):
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            pass
    seen.append("ended by itself")
"""
    registry, seen = load(NAMED + bad)
    async with Resources(registry.lifespan):
        pass
    assert seen[2:] == ["close second", "close first"]
    await until(lambda: seen[-1] == "ended by itself")


@pytest.mark.parametrize(
    ("bad", "events"),
    [
        ("async def bad():\n    raise OSError('gone')", [("failed", 'shutdown hook "bad"')]),
        ("def bad():\n    raise SystemExit", [("failed", 'shutdown hook "bad"')]),
        ("async def bad():\n    await asyncio.sleep(60)", [("takes too long and was left", 'shutdown hook "bad"')]),
        ("def bad():\n    time.sleep(0.2)", [("takes too long and was left", 'shutdown hook "bad"')]),
    ],
)
@pytest.mark.usefixtures("quick")
async def test_a_shutdown_hook_that_fails_is_named_and_the_rest_goes_on(load, log, bad, events):
    registry, seen = load(NAMED + "\n@shutdown\n" + bad + HOOKS)
    async with Resources(registry.lifespan):
        seen.clear()
    assert seen == ["end with 1", "end too", "close second", "close first"]
    assert told(log) == events


async def test_a_hook_around_an_async_one_is_awaited(load):
    registry, seen = load("""
async def inner():
    seen.append("ran")

@startup
def begin():
    return inner()
""")
    async with Resources(registry.lifespan):
        assert seen == ["ran"]


async def test_one_that_ends_while_in_use_is_named_with_its_reason(load, log):
    registry, _ = load("""
@resource
async def poller():
    async with asyncio.TaskGroup() as group:
        yield group
""")

    async def fail() -> None:
        raise OSError("line cut")

    async with Resources(registry.lifespan) as resources:
        resources.opened.poller.create_task(fail())
        await until(lambda: log.entries)
    (line,) = log.entries
    assert (line["event"], line["what"]) == ("ended while it was in use", 'resource "poller"')
    assert isinstance(line["exc_info"], BaseExceptionGroup)
    assert [str(error) for error in line["exc_info"].exceptions] == ["line cut"]
