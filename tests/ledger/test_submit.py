"""submit, submit_sync, Run: what is accepted, what is refused before that, and what comes back."""

import asyncio
import contextvars
import importlib
import math
import os
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from runtime import INJECTED, QueueFull, Run, RunFailed, StoreDown, SubmitError, SyncRun, submit, submit_sync
from runtime.base.errors import DeclarationError, UnknownFunction, UnknownRun
from runtime.declare.context import current as current_context
from runtime.declare.loader import load
from runtime.ledger.desk import Desk
from runtime.ledger.records import Ending, Failure
from runtime.ledger.targets import FolderCatalogue, on_failure_map
from tests.declare.conftest import _restored_imports  # noqa: F401 - what is loaded here is put back
from tests.desks import context, desk_in_use
from tests.ledger.trial import START, Trial
from tests.live_servers import until
from tests.stores import Proxy

ORDERS = """
    import functools
    from dataclasses import dataclass
    from typing import Annotated
    import msgspec
    from runtime import INJECTED, Context, PlainText, Request, fn, http, queue

    class Order(msgspec.Struct):
        sku: str
        qty: Annotated[int, msgspec.Meta(ge=1)] = 1

    class Receipt(msgspec.Struct):
        number: int

    @queue("orders")
    @queue("others")
    @fn(max_age="1h")
    async def create(customer: str, order: Order, ctx: Context = INJECTED) -> Receipt: ...

    @http.get("/orders")
    def feed(limit: float = 10) -> list[int]: ...

    @http.get("/note")
    def note(function: str = "", queue: str = "") -> PlainText: ...

    @dataclass
    class Box:
        höhe_in_cm: int = 0

    @fn()
    def box() -> Box: ...

    @http.get("/stream")
    async def stream():
        yield 1

    @http.get("/needs")
    def needs(request: Request): ...

    def plain(): ...

    class Kind:
        def method(self): ...
"""


@pytest.fixture
def orders(desk: Desk, write_project) -> ModuleType:
    """The module functions.orders of a project that this process has loaded."""
    registry = load(write_project(**{"functions/orders.py": ORDERS, "functions/tidy/up.py": TIDY}))
    assert registry.failures == ()
    desk.registry = lambda: registry
    return sys.modules["functions.orders"]


TIDY = """
    from runtime import queue

    @queue
    def handler(): ...
""".replace("@queue\n", "@queue()\n")


async def test_a_run_is_what_was_submitted(orders, trial):
    created = await submit(orders.create, customer="c1", order=orders.Order("X", 2))
    assert isinstance(created, Run)
    assert not created.known
    view = trial.show(created.id)
    assert (view.function, view.queue, view.state, view.trigger) == ("orders.create", "orders", "queued", "submit")
    assert (view.priority, view.parent, view.trace) == (5, "", "")
    assert view.expires == START + 3600
    assert msgspec.json.decode(view.payload) == {"customer": "c1", "order": {"sku": "X", "qty": 2}}
    assert await created.state() == "queued"
    assert await created.progress() is None
    assert repr(created) == f"Run('{created.id}')"


async def test_arguments_come_by_place_or_by_name_and_may_have_any_name(orders, trial):
    by_place = await submit(orders.create, "c1", orders.Order("X"), ctx=INJECTED)
    assert msgspec.json.decode(trial.show(by_place.id).payload) == {"customer": "c1", "order": {"sku": "X", "qty": 1}}
    named = await submit(orders.note, function="f", queue="q")
    assert msgspec.json.decode(trial.show(named.id).payload) == {"function": "f", "queue": "q"}
    by_name = await submit("orders.note", function="f")
    assert trial.show(by_name.id).queue == "default"
    assert trial.show((await submit("tidy.up")).id).function == "tidy.up"
    assert trial.show((await submit(sys.modules["functions.tidy.up"].handler)).id).function == "tidy.up"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"customer": "c1"}, SubmitError, "order: required, but missing"),
        ({"customer": "c1", "order": {"sku": "X", "qty": 0}}, SubmitError, "order: Expected `int` >= 1"),
        ({"customer": "c1", "order": {"sku": "X"}, "size": 1}, SubmitError, "size: unknown argument"),
        ({"customer": {1, 2}, "order": object()}, SubmitError, "orders.create are sent as JSON, and these cannot be"),
        ({"customer": math.nan, "order": None}, SubmitError, "sent as JSON, and these cannot be: Out of range float"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_at_once(orders, trial, arguments, error, says):
    with pytest.raises(error, match=says):
        await submit(orders.create, **arguments)
    with pytest.raises(error, match=says):
        await submit.many("orders.create", [{"customer": "c", "order": {"sku": "X"}}, arguments])
    assert trial.list_ids() == []


async def test_what_is_no_function_is_refused(orders, trial):
    import json

    for what, error, says in (
        ("orders.creat", UnknownFunction, 'no function "orders.creat"; did you mean "orders.create"'),
        (orders.plain, SubmitError, "plain is no function of fnrun's: write a decorator above it, @fn or @queue"),
        (orders.Kind().method, SubmitError, "Kind.method is no function of fnrun's"),
        (json.dumps, SubmitError, "dumps is no function of fnrun's"),
        (len, SubmitError, "len is no function of fnrun's"),
        (lambda: 1, SubmitError, "is no function of fnrun's"),
        (orders.stream, SubmitError, '"orders.stream" streams'),
        (orders.needs, DeclarationError, "cannot supply parameter request"),
        (
            _elsewhere(),
            SubmitError,
            "stands in tests.ledger.test_submit, and workers find functions of functions/ only",
        ),
    ):
        with pytest.raises(error, match=says.replace("(", r"\(")):
            await submit(what)
    with pytest.raises(SubmitError, match="with a name, arguments come by name"):
        await submit("orders.note", "x")  # type: ignore[call-overload]
    with pytest.raises(SubmitError, match="too many positional"):
        await submit(orders.note, 1, 2, 3)
    assert trial.list_ids() == []


def _elsewhere():
    from runtime import queue

    @queue("x")
    def handler(): ...

    return handler


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"priority": 10}, r"submit.using\(priority=10\): a whole number from 0 to 9, 9 the most urgent"),
        ({"priority": True}, "a whole number"),
        ({"priority": "high"}, "a whole number"),
        ({"delay": "soon"}, "'soon' is not a duration"),
        ({"delay": -1}, "not a duration"),
        ({"delay": "200000d"}, "longer than 100 years"),
        ({"delay": 1, "at": "2030-01-01T00:00+00:00"}, "both say when; write one of them"),
        ({"at": datetime(2030, 1, 1)}, "a date with an offset"),  # noqa: DTZ001 - that is the point
        ({"at": "2030-01-01"}, "a date with an offset"),
        ({"at": "tomorrow"}, "a date with an offset"),
        ({"at": 12}, "a date with an offset"),
        ({"id": ""}, "1 to 64 letters, digits, _ and -"),
        ({"id": "a b"}, "1 to 64 letters"),
        ({"id": "x" * 65}, "1 to 64 letters"),
        ({"id": "x\n"}, "1 to 64 letters"),
        ({"dedupe": ""}, "a text of 1 to 512 characters"),
        ({"dedupe": "\udc00"}, "surrogates not allowed"),
        ({"dedupe": 7}, "a text of 1 to 512 characters"),
        ({"max_age": 0}, "not a duration"),
        ({"queue": "my queue"}, "a name without spaces"),
        ({"prio": 1}, "unknown option 'prio'; did you mean \"priority\""),
        ({"xyz": 1}, "unknown option 'xyz'; there are queue, priority, delay"),
    ],
)
def test_options_that_cannot_hold_name_the_fix(options, says):
    with pytest.raises(SubmitError, match=says):
        submit.using(**options)
    with pytest.raises(SubmitError, match=says):
        submit_sync.using(**options)


async def test_options_say_how_a_run_is_submitted(orders, trial):
    plain = await submit.using(queue="slow", priority=0, max_age="1m", id="mine_-1")(orders.feed, limit=1)
    view = trial.show("mine_-1")
    assert plain.id == "mine_-1"
    assert (view.queue, view.priority, view.expires) == ("slow", 0, START + 60)
    delayed = trial.show((await submit.using(delay="1h")(orders.feed)).id)
    assert (delayed.state, delayed.due) == ("scheduled", START + 3600)
    far = trial.show((await submit.using(delay="36000d")(orders.feed)).id)
    assert far.due == START + 36_000 * 86_400
    when = datetime.fromtimestamp(START + 90, UTC).astimezone(timezone(timedelta(hours=5)))
    for at in (when, when.isoformat()):
        assert trial.show((await submit.using(at=at)(orders.feed)).id).due == START + 90
    for now in ({"delay": 0}, {"at": "2001-01-01T00:00Z"}, {"priority": None, "delay": None}):
        assert trial.state((await submit.using(**now)(orders.feed)).id) == "queued"
    both = submit.using(queue="slow").using(delay="1m", priority=9)
    view = trial.show((await both(orders.create, "c", orders.Order("X"))).id)
    assert (view.queue, view.priority, view.due, view.expires) == ("slow", 9, START + 60, START + 60 + 3600)


async def test_the_run_that_is_known_already_is_returned(orders, trial):
    first = await submit.using(dedupe="k")(orders.feed)
    second = await submit.using(dedupe="k")(orders.feed, limit=3)
    other = await submit.using(dedupe="k")(orders.note)
    assert (first.known, second.known, other.known) == (False, True, False)
    assert second.id == first.id != other.id
    named = [await submit.using(id="one")(orders.feed) for _ in range(2)]
    assert [(run.id, run.known) for run in named] == [("one", False), ("one", True)]
    assert len(trial.list_ids()) == 3


async def test_many_are_submitted_in_their_order(orders, trial):
    runs = await submit.using(queue="bulk", delay="1m").many(orders.feed, ({"limit": n} for n in range(230)))
    assert [msgspec.json.decode(trial.show(run.id).payload)["limit"] for run in runs[::50]] == [0, 50, 100, 150, 200]
    assert len(trial.list_ids()) == 230
    assert await submit.many(orders.feed, []) == []
    with pytest.raises(SubmitError, match="7 is no mapping of arguments by name"):
        await submit.many(orders.feed, [{"limit": 1}, 7])
    for options in ({"id": "x"}, {"dedupe": "x"}):
        with pytest.raises(SubmitError, match="is of one run; submit them one by one"):
            await submit.using(**options).many(orders.feed, [{}])


async def test_arguments_may_be_too_long(orders, desk, trial):
    desk.payload_max = 60
    await submit(orders.create, customer="c", order=orders.Order("x"))
    with pytest.raises(SubmitError, match=r"orders.create are \d\d\d bytes.* more than 60; .*payload_max"):
        await submit(orders.create, customer="c" * 100, order=orders.Order("x"))
    assert len(trial.list_ids()) == 1


async def test_a_full_queue_refuses(orders, desk, trial):
    desk.max_length = 3
    await submit(orders.feed)
    with pytest.raises(QueueFull, match='"default" is full: it has 3 open runs; 2 were accepted before') as caught:
        await submit.many(orders.feed, [{}] * 4)
    assert len(caught.value.accepted) == 2
    with pytest.raises(QueueFull, match='queue "default" is full: it has 3 open runs; try again later'):
        await submit(orders.feed)
    await submit(orders.create, "c", orders.Order("X"))
    assert len(trial.list_ids()) == 4


def worked_off(trial: Trial, **fields) -> None:
    trial.works("w", "orders.create", "orders.feed", "orders.note")
    for one in trial.claim("w", "default", "orders", slots=100):
        trial.finish(one, **fields)


async def test_a_result_is_what_the_annotation_says(orders, trial):
    typed = await submit(orders.create, "c", orders.Order("X"))
    by_name = await submit("orders.feed")
    with pytest.raises(TimeoutError, match=r"is not over after 0.01 s"):
        await typed.result(timeout=0.01)
    waiting = asyncio.create_task(typed.result())
    told = f"{trial.namespace}:done:{typed.id}"
    await asyncio.to_thread(until, lambda: trial.client.pubsub_channels(told))  # it waits
    worked_off(trial, result=b'{"number": 7}')
    assert await waiting == orders.Receipt(7)
    assert await by_name.result("1s") == {"number": 7}  # not what it says: plain JSON
    assert await Run(typed.id).result(0) == {"number": 7}
    nothing = await submit(orders.note)
    worked_off(trial, result=b"null")
    assert await nothing.result() is None


async def test_a_result_is_read_whatever_letters_its_names_have(orders, trial):
    run = await submit(orders.box)
    trial.works("w", "orders.box")
    trial.finish(trial.claim("w", "default")[0], result='{"höhe_in_cm": 7}'.encode())
    assert await run.result() == orders.Box(7)


async def test_a_failure_is_raised_or_returned(orders, trial):
    run = await submit(orders.feed)
    worked_off(trial, state="failed", reason="error", failure=Failure(type="ValueError", message="no stock"))
    with pytest.raises(
        RunFailed, match=f"run {run.id} of orders.feed ended with error: ValueError: no stock"
    ) as caught:
        await run.result()
    error = caught.value
    assert (error.run_id, error.function, error.reason) == (run.id, "orders.feed", "error")
    assert (error.type, error.message) == ("ValueError", "no stock")
    returned = await run.result(propagate=False)
    assert isinstance(returned, RunFailed)
    cancelled = await submit(orders.feed)
    assert await cancelled.cancel() == "cancelled"
    assert await cancelled.cancel() == "finished"
    with pytest.raises(RunFailed, match=r"of orders.feed ended with cancelled$"):
        await cancelled.result()


async def test_a_run_that_nobody_knows(desk):
    nobody = Run("nobody")
    for ask in (nobody.state, nobody.result, nobody.cancel, nobody.progress):
        with pytest.raises(UnknownRun, match='no run "nobody"'):
            await ask()


async def test_progress_is_the_latest_word(orders, trial):
    run = await submit(orders.feed)
    trial.works("w", "orders.feed")
    claimed = trial.claim_one("w", "default")
    trial.beat(claimed, progress=b'{"done": 3}')
    assert await run.progress() == {"done": 3}
    assert await run.cancel() == "cancelling"
    trial.finish(claimed)
    assert await run.state() == "cancelled"


async def test_what_a_handler_submits_is_its_child(orders, trial, desk):
    parent = await submit(orders.feed)
    token = current_context.set(context(parent.id, is_run=True))
    child = await submit(orders.feed)
    from_thread = await asyncio.to_thread(submit_sync, orders.feed)
    current_context.reset(token)
    current_context.set(context("0" * 32, is_run=False))
    of_request = await submit(orders.feed)
    view = trial.show(child.id)
    assert view.parent == parent.id == trial.show(from_thread.id).parent
    assert view.trace == f"00-0af7651916cd43dd8448eb211c80319c-{parent.id[16:]}-01"
    assert trial.show(of_request.id).parent == ""
    assert trial.show(of_request.id).trace.startswith("00-0af7651916cd43dd8448eb211c80319c-")
    [(place, children)] = await desk.ask(desk.ledger.children([(parent.id, "0")]))
    assert (place, set(children)) == ("0", {child.id, from_thread.id})


async def test_a_tree_is_cancelled_with_all_that_it_submitted(orders, trial, desk):
    async def children_of(parent: str, count: int) -> list[str]:
        current_context.set(context(parent, is_run=True))
        return [run.id for run in await submit.many(orders.feed, [{}] * count)]

    root = await submit(orders.feed)
    many = await asyncio.create_task(children_of(root.id, 1500))
    deep = await asyncio.create_task(children_of(many[700], 3))
    deepest = await asyncio.create_task(children_of(deep[1], 1))
    other = await submit(orders.feed)
    assert await root.cancel() == "cancelled"
    assert trial.state(many[0]) == "queued"
    assert await root.cancel(tree=True) == "finished"
    assert {trial.state(one) for one in [*many, *deep, *deepest]} == {"cancelled"}
    assert trial.state(other.id) == "queued"


async def test_nothing_is_accepted_while_the_store_is_away(valkey, trial, orders):
    with Proxy(valkey) as proxy, desk_in_use(proxy.url, trial.namespace, trial.ledger):
        run = await submit("orders.feed")
        proxy.cut()
        for ask in (submit("orders.feed"), run.state(), run.cancel(), run.result(1)):
            with pytest.raises(StoreDown):
                await ask
        with pytest.raises(StoreDown):
            submit_sync("orders.feed")
        proxy.restore()
        assert await run.state() == "queued"
    assert trial.list_ids() == [run.id]


def test_the_same_without_a_loop(orders, trial):
    run = submit_sync(orders.create, "c", orders.Order("X"))
    assert isinstance(run, SyncRun)
    assert (run.state(), run.known, run.progress()) == ("queued", False, None)
    with pytest.raises(TimeoutError):
        run.result(timeout=0.01)
    worked_off(trial, result=b'{"number": 7}')
    assert run.result() == orders.Receipt(7)
    assert run.result(propagate=False) == orders.Receipt(7)
    assert SyncRun(run.id).result(1) == {"number": 7}
    assert repr(run) == f"SyncRun('{run.id}')"
    runs = submit_sync.using(queue="bulk").many(orders.feed, [{"limit": 1}, {"limit": 2}])
    assert [one.cancel(tree=True) for one in runs] == ["cancelled", "cancelled"]
    with pytest.raises(SubmitError, match="size: unknown argument"):
        submit_sync("orders.feed", size=1)


async def test_sync_code_in_a_loop_blocks_but_works(orders, trial):
    assert trial.state(submit_sync(orders.feed).id) == "queued"


def test_threads_share_the_loop_behind_submit_sync(orders, trial):
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(submit_sync(orders.feed).id)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(trial.list_ids())


def test_whoever_waits_in_the_portal_itself_is_told(desk):
    from runtime.ledger.portal import wait_for

    async def inside() -> None:
        wait_for(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="called from its own event loop; use submit there"):
        wait_for(inside())
    assert wait_for(asyncio.sleep(0, "well")) == "well"


def test_without_a_registry_a_function_says_itself_what_it_is(desk, orders, trial):
    desk.registry = None
    view = trial.show(submit_sync(orders.create, "c", orders.Order("X")).id)
    assert (view.function, view.queue, view.expires) == ("orders.create", "orders", START + 3600)
    assert trial.show(submit_sync("any.name", x=1).id).function == "any.name"


# --- functions found file by file, as a script does ----------------------------------------------------------------


@pytest.fixture
def folder(desk, write_project) -> Path:
    """A project whose files are read when they are asked for."""
    root = write_project(
        **{
            "functions/orders.py": ORDERS,
            "functions/tidy/up.py": TIDY,
            "functions/broken.py": "from runtime import queue\nimport nothing_of_that_name\n",
            "functions/loud.py": "import sys\nsys.modules['loud_was_run'] = sys\n",
            "functions/_lib.py": "",
        }
    )
    from runtime.base.sections import FunctionSettings

    overrides = {"orders.note": FunctionSettings(queue="notes"), "orders.feed": FunctionSettings(enabled=False)}
    catalogue = FolderCatalogue(root, overrides)
    desk.registry = lambda: catalogue
    for name in [name for name in sys.modules if name.partition(".")[0] == "functions"]:
        del sys.modules[name]
    return root


def test_a_script_reads_the_files_it_needs(folder, trial):
    assert trial.show(submit_sync("orders.note").id).queue == "notes"
    assert trial.show(submit_sync("tidy.up").id).function == "tidy.up"
    assert "loud_was_run" not in sys.modules
    for name, error, says in (
        ("orders.nota", UnknownFunction, 'no function "orders.nota"; did you mean "orders.note"'),
        ("tidy.down", UnknownFunction, 'did you mean "tidy.up"'),
        ("orders.feed", UnknownFunction, 'no function "orders.feed"'),
        ("../secret", UnknownFunction, "no function"),
        ("broken", SubmitError, "it does not load: functions/broken.py:2: ModuleNotFoundError"),
    ):
        with pytest.raises(error, match=says):
            submit_sync(name)
    with pytest.raises(SubmitError, match="customer: required"):
        submit_sync("orders.create")
    (folder / "functions/tidy/up.py").unlink()  # a file that was read is not looked for again
    assert trial.show(submit_sync("tidy.up").id).function == "tidy.up"


def test_what_a_script_has_imported_is_not_imported_again(folder, trial, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    orders = importlib.import_module("functions.orders")
    assert trial.show(submit_sync(orders.create, "c", orders.Order("X")).id).queue == "orders"
    assert sys.modules["functions.orders"] is orders


# --- on_failure= ---------------------------------------------------------------------------------------------------

ALERTS = """
    from runtime import Context, fn, queue

    @queue("alerts")
    def send(run_id: str, error: str, ctx: Context, arguments: dict | None = None): ...
"""


def test_on_failure_is_a_name_when_loaded(write_project):
    root = write_project(
        **{
            "functions/alerts.py": ALERTS,
            "functions/work.py": """
                from functions.alerts import send
                from runtime import fn, queue

                @queue()
                @fn(on_failure=send)
                def one(): ...

                @fn(on_failure="alerts.send")
                def two(): ...

                @fn()
                def three(): ...
            """,
        }
    )
    registry = load(root)
    assert registry.failures == ()
    assert registry.get("work.one").on_failure == "alerts.send"
    assert on_failure_map(registry.functions) == {
        "work.one": ("alerts.send", "alerts"),
        "work.two": ("alerts.send", "alerts"),
    }


def test_a_failed_run_starts_the_function_its_own_names(orders, trial):
    trial.works("w", "orders.feed", **{"orders.feed": ("orders.note", "notes")})
    run = submit_sync("orders.feed")
    claimed = trial.claim_one("w", "default")
    failure = Failure(type="ValueError", message="no")
    ending = Ending(id=run.id, token=claimed.token, state="failed", reason="error", failure=failure)
    from runtime.ledger.desk import current

    assert current().ask_sync(trial.ledger.finish([ending])) == [True]
    view = trial.show(f"{run.id}-failed")
    assert (view.function, view.queue, view.trigger, view.parent) == ("orders.note", "notes", "on_failure", run.id)


def test_the_caller_of_a_context_is_not_changed(orders):
    before = contextvars.copy_context()
    submit_sync(orders.feed)
    assert dict(contextvars.copy_context().items()) == dict(before.items())


def test_a_child_of_a_fork_has_a_loop_of_its_own(orders, trial):
    first = submit_sync(orders.feed)
    pid = os.fork()
    if pid == 0:
        code = 1
        with suppress(BaseException):
            submit_sync.using(id="child")(orders.feed)
            code = 0
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert trial.state("child") == first.state() == "queued"
