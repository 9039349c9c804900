"""A Claimed in, an Ending out, whatever the handler does."""

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import anyio
import msgspec
import pytest

from runtime.base.ids import new_run_id
from runtime.base.logs import prints
from runtime.declare.context import current
from runtime.invoke import direct
from runtime.invoke.invoker import Invoker
from runtime.ledger.records import Claimed, Ending
from runtime.ledger.targets import on_failure_map
from runtime.observe import counts
from runtime.observe.board import BEGAN
from runtime.projects import Project, load_project
from runtime.triggers.queue.execution import Execution
from runtime.triggers.queue.leases import Lease
from runtime.triggers.queue.outcomes.results import failure_of
from runtime.triggers.queue.plans import plan_runs, queues_of

FUNCTIONS = """
    import asyncio, time
    from contextvars import ContextVar
    from runtime import Context, GiveUp, Problem, Reply, Request, Retry, RetryAfter, fn, http, queue

    @queue("mails")
    async def echo(ctx: Context, x: int = 0):
        return {"x": x, "id": ctx.run_id, "trigger": ctx.trigger, "attempt": ctx.attempt, "trace": ctx.traceparent}

    @fn(retries=1)
    async def boom():
        raise SystemExit(3)

    @fn(timeout="50ms", retries=1)
    def slow():
        time.sleep(0.3)

    @queue("quick", timeout="20ms")
    @queue("slow")
    @fn(timeout="10s", retries=1)
    async def rests():
        await asyncio.sleep(0.2)
        return "rested"

    @fn(retries=Retry(3, wait="4s", jitter=False), max_age="1h", on_failure="jobs.told")
    async def fails(how: str = ""):
        if how == "after":
            raise RetryAfter("30s")
        if how == "up":
            raise GiveUp("enough")
        raise OSError("no")

    async def never(ctx: Context):
        ctx.progress([1, 2])
        await asyncio.Event().wait()

    @http.get("/items")
    @fn(timeout="100ms", retries=1)
    async def items(count: int):
        for i in range(count):
            yield i
        if count > 5:
            await asyncio.sleep(60)

    @http.get("/broken")
    @fn(retries=1)
    def broken_items():
        yield 1
        raise ValueError("half way")

    class Odd:
        pass

    @fn(retries=1)
    async def odd():
        return Odd()

    async def told(function: str, reason: str):
        return f"{function} {reason}"

    SEEN = ContextVar("seen", default="nothing")

    @fn(retries=1)
    async def seen(name: str):
        before = SEEN.get()
        SEEN.set(name)
        return before

    @fn(timeout="50ms", retries=1)
    async def stubborn():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(1.5)

    @fn(retries=1)
    async def cancels_itself():
        raise asyncio.CancelledError

    class Proxy:
        @property
        def __class__(self):
            raise RuntimeError("unbound")

    @fn(retries=1)
    async def proxy():
        return Proxy()

    @fn(retries=1)
    def plain_proxy():
        return Proxy()

    @fn(retries=1)
    def plain():
        return 1

    @fn(retries=1)
    async def cancels_all():
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if task.get_coro().__name__ == "work":
                task.cancel()

    @fn(timeout="100ms", retries=1)
    async def brief():
        return 1

    @fn(timeout="300ms", retries=1)
    def looks(ctx: Context):
        def items():
            print("half a line", end="")
            while not ctx.cancelled:
                time.sleep(0.01)
            SEEN_CANCELLED.append(1)
            yield 1
        return items()

    SEEN_CANCELLED = []

    @fn(retries=1)
    async def seen_cancelled():
        return len(SEEN_CANCELLED)

    def around(count: int = -1):
        return told("a", "b") if count < 0 else (i for i in range(count))

    never, odd, told, boom, slow, fails = (queue("default")(one) for one in (never, odd, told, boom, slow, fails))
    seen, stubborn, around = (queue("default")(one) for one in (seen, stubborn, around))
    cancels_itself, proxy, plain_proxy = (queue("default")(one) for one in (cancels_itself, proxy, plain_proxy))
    cancels_all, brief, looks, plain = (queue("default")(one) for one in (cancels_all, brief, looks, plain))
    seen_cancelled = queue("default")(seen_cancelled)

    @http.post("/raw")
    async def raw(request: Request):
        ...
"""


class Box:
    """An execution, and the endings that came out of it."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.endings: asyncio.Queue[tuple[Lease, Ending | None]] = asyncio.Queue()

    def start(self, function: str, payload: bytes = b"{}", **said) -> Lease:
        now = time.time()
        known = {"id": new_run_id(), "queue": "default", "token": 1, "accepted": now, "due": now, "claimed": now}
        lease = Lease(Claimed(function=f"jobs.{function}", payload=payload, **(known | said)))
        self.execution.start(lease)
        return lease

    async def end(self) -> Ending | None:
        async with asyncio.timeout(5):
            return (await self.endings.get())[1]

    async def run(self, function: str, payload: bytes = b"{}", **said) -> Ending:
        self.start(function, payload, **said)
        ending = await self.end()
        assert ending is not None
        return ending


@contextmanager
def box_of(project: Project, result_max: int) -> Iterator[Box]:
    """One for a project's functions."""
    assert project.registry.failures == ()
    invoker = Invoker(threads=4)
    made: list[Box] = []
    execution = Execution(
        invoker, lambda lease, ending: made[0].endings.put_nowait((lease, ending)), worker="w", result_max=result_max
    )
    made.append(Box(execution))
    execution.adopt(project.registry.functions.values())
    yield made[0]
    invoker.threads.close()


@pytest.fixture
async def box(write_project: Callable) -> AsyncIterator[Box]:
    with box_of(load_project(write_project(**{"functions/jobs.py": FUNCTIONS})), 100) as box:
        yield box


async def test_a_run_gets_its_arguments_and_its_context(box):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    box.execution._results.most_bytes = 1000
    ending = await box.run("echo", b'{"x": 7}', trigger="api", failures=1, trace=trace)
    result = json.loads(ending.result)
    assert (result["x"], result["id"], result["trigger"], result["attempt"]) == (7, ending.id, "api", 2)
    assert result["trace"].split("-")[1] == trace.split("-")[1]
    assert (ending.state, ending.attempt, ending.worker, ending.reason) == ("succeeded", 2, "w", None)
    assert ending.began <= ending.ended


async def test_a_celery_tasks_id_is_an_id_too(box):
    box.execution._results.most_bytes = 1000
    ending = await box.run("echo", id="d2c8a5d4-31f2-4a3c-9b6e-1f2e3d4c5b6a")
    assert json.loads(ending.result)["id"] == "d2c8a5d4-31f2-4a3c-9b6e-1f2e3d4c5b6a"


@pytest.mark.parametrize("payload", [b"nope", b"[]", b'{"x": "a"}', b'{"y": 1}', b"\xff"])
async def test_arguments_that_do_not_fit_are_not_tried_again(box, payload):
    ending = await box.run("echo", payload)
    assert (ending.state, ending.reason) == ("failed", "bad arguments")
    assert ending.failure.type == "InputError"


async def test_a_number_no_float_can_hold_is_no_fault_of_the_functions_types(box):
    ending = await box.run("echo", b'{"x": 1e400}')
    assert (ending.reason, ending.failure.type) == ("bad arguments", "InputError")
    assert "the JSON holds what cannot be read: Number out of range" in ending.failure.message


async def test_system_exit_is_a_failure_like_others(box):
    ending = await box.run("boom")
    assert (ending.state, ending.reason, ending.failure.type) == ("failed", "error", "SystemExit")


async def test_a_thread_that_takes_too_long_is_left(box):
    ending = await box.run("slow")
    assert (ending.state, ending.reason, ending.failure.type) == ("failed", "timeout", "TimeoutError")


async def test_a_queue_may_have_a_timeout_of_its_own(box):
    assert (await box.run("rests", queue="quick")).reason == "timeout"
    assert (await box.run("rests", queue="slow")).result == b'"rested"'


async def test_retries(box):
    first = await box.run("fails")
    assert (first.state, first.retry_seconds, first.failure.message) == ("retrying", 4, "no")
    assert "raise OSError" in first.failure.traceback
    assert (await box.run("fails", failures=2)).state == "failed"
    assert (await box.run("fails", b'{"how": "after"}')).retry_seconds == 30
    assert (await box.run("fails", b'{"how": "up"}')).state == "failed"
    assert (await box.run("fails", due=time.time() - 3598)).state == "failed"


async def test_one_that_asks_to_be_tried_again_is_told_in_a_line(box, log):
    await box.run("fails", b'{"how": "after"}')
    await box.run("fails", b'{"how": "up"}')
    asked, gave_up = log.entries
    assert (asked["event"], asked["reason"]) == ("handler failed", "retry after 30 s")
    assert ("exc_info" in asked, gave_up["event"], "exc_info" in gave_up) == (False, "handler failed", True)


async def test_items_become_a_list(box):
    assert (await box.run("items", b'{"count": 3}')).result == b"[0,1,2]"
    assert (await box.run("items", b'{"count": 0}')).result == b"[]"


async def test_items_are_bounded_in_number_and_time(box):
    assert (await box.run("items", b'{"count": 1000}')).reason == "bad result"
    assert (await box.run("items", b'{"count": 7}')).reason == "timeout"
    ending = await box.run("broken_items")
    assert (ending.reason, ending.failure.message) == ("error", "half way")


async def test_what_json_cannot_say_is_a_bad_result(box):
    ending = await box.run("odd")
    assert (ending.state, ending.reason) == ("failed", "bad result")


async def test_a_cancelled_run_says_so_with_its_progress(box):
    before = time.time()
    lease = box.start("never")
    with anyio.fail_after(5):
        while not lease.progress:
            await anyio.lowlevel.checkpoint()
    box.execution.stop([lease], "cancelled")
    ending = await box.end()
    assert (ending.state, ending.reason, ending.progress) == ("cancelled", "cancelled", b"[1,2]")
    assert before <= ending.began <= ending.ended


@pytest.mark.parametrize("fate", ["lost", "handed back"])
async def test_a_run_that_is_lost_or_handed_back_has_no_ending(box, fate):
    lease = box.start("never")
    assert box.execution.at_work == [lease]
    box.execution.stop([lease], fate)  # before its task has begun
    assert await box.end() is None
    assert await box.execution.idle(1)


async def test_a_function_that_is_gone_is_handed_back(box):
    lease = box.start("unheard_of")
    assert await box.end() is None
    assert lease.fate == "handed back"


async def test_idle_waits_only_so_long(box):
    lease = box.start("never")
    assert not await box.execution.idle(0.01)
    box.execution.stop([lease], "lost")
    assert await box.execution.idle(2)


async def test_what_a_run_leaves_in_its_context_is_there_for_no_other(box, monkeypatch):
    """Also where the next one is begun as one ends, as the crew does."""
    ended, contexts = box.execution._ended, []

    def go_on(lease: Lease, ending: Ending | None) -> None:
        contexts.append(current.get(None))
        if lease.run.payload == b'{"name": "first"}':
            box.start("seen", b'{"name": "second"}')
        ended(lease, ending)

    monkeypatch.setattr(box.execution, "_ended", go_on)
    first = await box.run("seen", b'{"name": "first"}')
    second = await box.end()
    assert (first.result, second.result) == (b'"nothing"', b'"nothing"')
    assert (await box.run("boom")).state == "failed"
    assert contexts == [None] * 3


async def test_what_ignores_its_cancellation_has_ended_once(box, monkeypatch):
    left = []
    monkeypatch.setattr(direct, "abandon", lambda name, _: left.append((name, current.get().run_id)))
    began = time.monotonic()
    ending = await box.run("stubborn")
    assert (ending.state, ending.reason) == ("failed", "timeout")
    assert time.monotonic() - began >= 1.05
    assert left == [("jobs.stubborn", ending.id)], "and its line says whose it is"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await box.endings.get()


async def test_a_handler_that_cancels_itself_has_failed(box):
    ending = await box.run("cancels_itself")
    assert (ending.state, ending.reason, ending.failure.type) == ("failed", "error", "CancelledError")


async def test_a_plain_function_around_others_gives_what_they_do(box):
    assert (await box.run("around")).result == b'"a b"'
    assert (await box.run("around", b'{"count": 2}')).result == b"[0,1]"


@pytest.mark.parametrize("function", ["proxy", "plain_proxy"])
async def test_a_result_that_raises_when_it_is_asked_for_its_class_holds_up_nobody(box, function):
    for name in (function, "plain"):
        box.start(name)
    endings = [await box.end() for _ in range(2)]
    assert sorted(one.state for one in endings) == ["failed", "succeeded"]
    assert [one.reason for one in endings if one.state == "failed"] == ["bad result"]


async def test_one_whose_task_is_cancelled_before_its_first_step_ends_in_its_time(box):
    box.start("cancels_all")
    box.start("brief")
    assert {(await box.end()).reason for _ in range(2)} == {None, "timeout"}


async def test_a_generator_of_a_plain_function_learns_that_its_time_is_over(box):
    assert (await box.run("looks")).reason == "timeout"
    with anyio.fail_after(5):
        while (await box.run("seen_cancelled")).result != b"1":
            pass
    assert prints.begun == {}


async def test_arguments_nested_too_deep_for_on_failure_end_the_run(box):
    deep = b'{"arguments": ' + b"[" * 2000 + b"]" * 2000 + b"}"
    ending = await box.run("told", deep, trigger="on_failure")
    assert ending.state == "failed"
    assert await box.execution.idle(1)


@pytest.mark.parametrize("function", ["plain", "brief", "boom", "fails"])
async def test_a_run_that_has_ended_needs_no_garbage_collector(box, function):
    await box.run(function)
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await box.run(function)
        await asyncio.sleep(0)
        assert gc.collect() < 20, "not one object a run"
    finally:
        gc.enable()


@pytest.mark.parametrize("function", ["slow", "rests", "boom", "told"])
async def test_a_run_is_counted_once(box, function):
    payload = b'{"function": "f", "reason": "r"}' if function == "told" else b"{}"

    def began() -> float:
        return counts.read_here().sums.get(("call", f"jobs.{function}", "submit"), [0.0] * (BEGAN + 1))[BEGAN]

    before = began()
    await box.run(function, payload, trigger="submit", queue="slow")
    assert began() == before + 1


async def test_on_failure_gets_what_it_asks_for(box):
    told = msgspec.json.encode({"run_id": "r", "function": "f", "reason": "error", "error": "e", "arguments": {}})
    assert (await box.run("told", told, trigger="on_failure")).result == b'"f error"'
    assert (await box.run("told", told, trigger="submit")).reason == "bad arguments"
    assert (await box.run("told", b"nope", trigger="on_failure")).reason == "bad arguments"


async def test_functions_that_want_a_request_cannot_run(box):
    assert "jobs.raw" not in box.execution.plans


async def test_a_worker_tells_of_queues_and_of_on_failure_as_submit_does(write_project):
    jobs = """
        from runtime import fn

        @fn(on_failure="jobs.told")
        def fails(): ...

        @fn()
        def told(): ...
    """
    settings = '[functions."jobs.told"]\nqueue = "alerts"\n'
    project = load_project(write_project(**{"functions/jobs.py": jobs, "functions.toml": settings}))
    functions = {name: plan.function for name, plan in plan_runs(project.registry.functions.values()).items()}
    assert on_failure_map(functions) == {"jobs.fails": ("jobs.told", "alerts")}
    assert queues_of(functions.values()) == {"default", "alerts"}


def test_an_error_without_words_is_still_told():
    class MuteError(Exception):
        def __str__(self) -> str:
            raise SystemExit

    failure = failure_of(MuteError())
    assert (failure.type, failure.message) == ("MuteError", "(its __str__ raised SystemExit)")
    assert failure_of(ValueError("\ud800")).message == "\\ud800"
