"""Programs that know Celery alone, and real workers: what they send runs, what they ask is answered."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import httpx
import pytest
from celery import Celery

from runtime.ledger.calls import do
from runtime.ledger.records import FINISHED
from tests.celery_clients import PREFIX, celery_client
from tests.live_servers import until
from tests.live_workers import Runs, Worker, journal, wait_for_lines
from tests.stores import TcpStore, free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

FUNCTIONS = """
    import asyncio, os
    from datetime import datetime
    from pathlib import Path
    from runtime import Context, Retry, fn, queue

    JOURNAL = os.open(Path(__file__).parents[1] / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(ctx):
        os.write(JOURNAL, f"{ctx.run_id} {ctx.attempt}\\n".encode())

    @queue("orders")
    async def create(ctx: Context, customer: str, qty: int = 1, when: datetime | None = None):
        note(ctx)
        return [customer, qty, ctx.trigger]

    @queue("orders")
    async def work(ctx: Context, seconds: float = 0.01):
        note(ctx)
        await asyncio.sleep(seconds)
        return ctx.run_id

    @queue("orders")
    @fn(retries=1, on_failure="orders.heard")
    async def fail(why: str):
        raise ValueError(why)

    @queue("orders")
    async def heard(function: str, error: str, arguments: dict):
        return [function, error, arguments]
"""
CLIENT = """
    import json, sys
    from datetime import datetime, timedelta, timezone
    from celery import Celery

    app = Celery("shop", broker=sys.argv[1])
    now = datetime.now(timezone.utc)

    def send(*args, name="orders.create", **options):
        return app.send_task(name, args=args, queue="orders", **options).id

    sent = {
        "by name": send(kwargs={"customer": "c1", "qty": 2}),
        "by place": send("c2", 3),
        "both": send("c3", kwargs={"qty": 4}),
        "its own id": send("c4", task_id="order-4"),
        "a date": send("c5", kwargs={"when": now}),
        "eta": send("c6", eta=now + timedelta(seconds=1)),
        "countdown": send("c7", countdown=1),
        "expires": send("c8", expires=600),
        "expired": send("c9", expires=now - timedelta(seconds=1)),
        "priority": send("c10", priority=9),
        "too many": send("c11", 1, None, "more"),
        "failed": send("no", name="orders.fail"),
        "pickle": send("c12", serializer="pickle"),
        "link": send("c13", link=app.signature("orders.create")),
    }
    assert not any(name.partition(".")[0] == "runtime" for name in sys.modules)
    print(json.dumps(sent))
"""


@pytest.fixture
def root(write_project: Callable[..., Path]) -> Path:
    return write_project(**{"functions/orders.py": FUNCTIONS})


@pytest.fixture
def app(server: TcpStore) -> Iterator[Celery]:
    """As it is where nothing is said of fnrun."""
    with celery_client(server.url) as app:
        yield app


@pytest.fixture
def seen(server: TcpStore) -> Iterator[Celery]:
    """One that says our prefix, and so speaks to the workers, too."""
    with celery_client(server.url, PREFIX, result_backend=None) as app:
        yield app


def run_client(folder: Path, source: str, url: str) -> str:
    """What another program prints."""
    file = folder / "client.py"
    file.write_text(dedent(source))
    done = subprocess.run(
        [sys.executable, "-I", file, url], capture_output=True, text=True, check=False, timeout=60, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def send(app: Celery, name: str, count: int = 1, **options) -> list[str]:
    return [app.send_task(name, queue="orders", **options).id for _ in range(count)]


def arrived(runs: Runs, ids: list[str]) -> bool:
    """Whether all of them are runs."""
    return runs.client.exists(*(f"{runs.ledger.prefix}run:{one}" for one in ids)) == len(ids)


def reach(runs: Runs, ids: list[str], states: frozenset[str] = FINISHED, seconds: float = 60.0):
    until(lambda: arrived(runs, ids), seconds)
    return runs.reach(ids, states, seconds)


def test_a_program_that_knows_celery_alone(start_worker, runs, server, tmp_path):
    start_worker()
    sent = json.loads(run_client(tmp_path, CLIENT, server.url))
    views = dict(zip(sent, reach(runs, list(sent.values())), strict=True))
    succeeded = {name: json.loads(bytes(view.result)) for name, view in views.items() if view.state == "succeeded"}
    assert succeeded == {
        "by name": ["c1", 2, "celery"], "by place": ["c2", 3, "celery"], "both": ["c3", 4, "celery"],
        "its own id": ["c4", 1, "celery"], "a date": ["c5", 1, "celery"], "eta": ["c6", 1, "celery"],
        "countdown": ["c7", 1, "celery"], "expires": ["c8", 1, "celery"], "priority": ["c10", 1, "celery"],
    }  # fmt: skip
    assert {name: view.reason for name, view in views.items() if view.state == "failed"} == {
        "expired": "expired", "too many": "bad arguments", "failed": "error", "pickle": "bad message",
        "link": "bad message",
    }  # fmt: skip
    assert views["its own id"].id == "order-4"
    assert views["priority"].priority == 9
    assert all(views[name].claimed >= views[name].due for name in ("eta", "countdown"))
    assert "c11" in bytes(views["too many"].payload).decode()
    assert "3 arguments" not in views["too many"].failure.message
    (heard,) = reach(runs, [f"{sent['failed']}-failed"])
    assert json.loads(bytes(heard.result)) == ["orders.fail", "no", {"why": "no"}]


def test_what_was_sent_while_no_worker_was_there_runs_when_there_is_one(start_worker, runs, app):
    ids = send(app, "orders.create", 20, kwargs={"customer": "c"})
    assert not arrived(runs, ids)
    start_worker()
    assert {view.state for view in reach(runs, ids)} == {"succeeded"}


def test_a_function_that_is_not_there_yet_waits_for_it(start_worker, runs, app, root):
    first = start_worker()
    (run_id,) = send(app, "orders.later", args=["c1"])
    until(lambda: arrived(runs, [run_id]), 20)
    assert runs.show([run_id])[0].state == "queued"
    file = root / "functions" / "orders.py"
    file.write_text(file.read_text() + "\n@queue('orders')\nasync def later(name: str):\n    return name\n")
    assert first.stop() == 0
    start_worker()
    assert bytes(reach(runs, [run_id])[0].result) == b'"c1"'


def test_a_task_that_is_published_twice_runs_once(start_worker, runs, app, root):
    send(app, "orders.work", 3, task_id="again")
    start_worker()
    reach(runs, ["again"])
    until(lambda: runs.client.llen("orders") == 0, 20)
    assert journal(root) == [("again", 1)]


def test_workers_that_are_killed_while_a_client_sends_lose_nothing(start_worker, runs, server, root, tmp_path):
    """Each task is one run with one outcome; an attempt that a killed worker had begun is made again."""
    client = """
        import sys, time
        from itertools import count
        from pathlib import Path
        from celery import Celery

        app, enough = Celery("shop", broker=sys.argv[1]), Path(sys.argv[2])
        for n in count():
            if enough.exists():
                break
            app.send_task("orders.work", queue="orders", task_id=f"task-{n}")
            time.sleep(0.005)
        print(n)
    """
    file, enough = tmp_path / "client.py", tmp_path / "enough"
    file.write_text(dedent(client))
    at_work = [start_worker(), start_worker()]
    sender = subprocess.Popen([sys.executable, "-I", file, server.url, enough], stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(5):
            begun = len(journal(root))
            until(lambda begun=begun: len(journal(root)) >= begun + 100, 60)
            at_work[0].process.kill()
            at_work = [at_work[1], start_worker()]
    finally:
        enough.touch()
        count = int(sender.communicate(timeout=60)[0])
    ids = [f"task-{n}" for n in range(count)]
    views = reach(runs, ids, seconds=120)
    assert Counter(view.state for view in views) == {"succeeded": count}
    assert all(bytes(view.result) == f'"{view.id}"'.encode() for view in views)
    assert set(Counter(run for run, _ in journal(root))) == set(ids)
    assert runs.client.llen("orders") == 0


def test_a_full_queue_leaves_tasks_with_the_client_until_there_is_room(start_worker, runs, app):
    ids = send(app, "orders.work", 30, kwargs={"seconds": 0.2})
    worker = start_worker(FNRUN_QUEUE__MAX_LENGTH="5", FNRUN_QUEUE__CONCURRENCY="5")
    until(lambda: "a queue is full" in worker.output, 20)
    assert {view.state for view in reach(runs, ids, seconds=60)} == {"succeeded"}
    assert worker.output.count("a queue is full") < 3


def test_a_store_that_was_away_is_drained_again(start_worker, runs, app, server):
    worker = start_worker()
    reach(runs, send(app, "orders.work"))
    server.kill()
    until(lambda: '"task": "drain"' in worker.output, 30)
    server.start()
    assert {view.state for view in reach(runs, send(app, "orders.work", 5))} == {"succeeded"}


def test_celerys_own_beat_may_go_on(start_worker, runs, server, tmp_path):
    start_worker()
    folder = tmp_path / "ticking"
    folder.mkdir()
    (folder / "shop.py").write_text(
        f"from celery import Celery\napp = Celery('shop', broker={server.url!r})\n"
        "app.conf.beat_schedule = {'tick': {'task': 'orders.work', 'schedule': 0.5, 'options': {'queue': 'orders'}}}\n"
    )
    beat = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "shop", "beat", "--schedule", folder / "beat"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: len(do(runs.client, runs.ledger.runs(["orders.work"], states=["succeeded"])).runs) >= 2, 60)
    finally:
        beat.terminate()
        beat.wait(20)
    until(lambda: not runs.client.exists("orders") and not do(runs.client, runs.ledger.queues())[0].running, 20)


def test_the_address_of_the_store_as_clients_write_it(root, server):
    done = subprocess.run(
        [sys.executable, "-m", "runtime", "--dir", root, "celery", "broker-url"],
        env={**os.environ, "FNRUN_STORE__URL": server.url}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == f"{server.url}\n"


# --- remote control ----------------------------------------------------------------------------------------------


@pytest.fixture
def listening(start_worker, seen: Celery) -> Worker:
    """A worker that hears commands: it says that it is ready a moment before it does."""
    worker = start_worker()
    until(lambda: seen.control.ping(timeout=2, limit=1), 60)
    return worker


@pytest.fixture
def name(listening, seen: Celery) -> str:
    """What Celery calls it."""
    ((name,),) = until(lambda: seen.control.ping(timeout=15, limit=1), 60)
    return name


def test_revoke_cancels_what_waits_and_what_runs(listening, runs, seen, root):
    (running,) = send(seen, "orders.work", kwargs={"seconds": 600})
    (waiting,) = send(seen, "orders.work", countdown=600)
    wait_for_lines(root, 1, 20)
    until(lambda: arrived(runs, [waiting]), 20)
    (answer,) = seen.control.revoke([running, waiting], reply=True, timeout=15, limit=1)
    assert list(answer.values()) == [{"ok": f"{running} cancelling, {waiting} cancelled"}]
    assert {view.state for view in reach(runs, [running, waiting])} == {"cancelled"}
    seen.control.revoke("not-yet", reply=True, timeout=15, limit=1)
    send(seen, "orders.work", task_id="not-yet", kwargs={"seconds": 600})
    assert {view.state for view in reach(runs, ["not-yet"])} == {"cancelled"}


def test_revoke_of_an_id_that_is_a_number(listening, runs, seen):
    send(seen, "orders.work", task_id=12345, countdown=600)
    until(lambda: arrived(runs, ["12345"]), 20)
    seen.control.revoke(12345, reply=True, timeout=15, limit=1)
    assert {view.state for view in reach(runs, ["12345"])} == {"cancelled"}


def test_terminate_cancels_too(listening, runs, seen, root):
    (running,) = send(seen, "orders.work", kwargs={"seconds": 600})
    wait_for_lines(root, 1, 20)
    seen.control.terminate(running, reply=True, timeout=15, limit=1)
    assert {view.state for view in reach(runs, [running])} == {"cancelled"}


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("rate_limit", {"task_name": "orders.work", "rate_limit": "1/m"}, "limits are the function's own"),
        ("time_limit", {"task_name": "orders.work", "hard": 1}, "a run's time is the function's own"),
        ("pool_grow", {"n": 1}, "[queue] concurrency"),
        ("autoscale", {"max": 2, "min": 1}, "[queue] concurrency"),
        ("pool_restart", {}, "`fnrun serve` starts another"),
    ],
)
def test_commands_that_would_do_nothing_say_what_does_it(seen, command, arguments, says):
    answers = seen.control.broadcast(command, arguments=arguments, reply=True, timeout=15, limit=1)
    (answer,) = answers[0].values()
    assert says in answer["error"]


@pytest.mark.usefixtures("listening")
def test_to_revoke_by_stamps_says_what_does_it(seen):
    answers = seen.control.revoke_by_stamped_headers({"a": ["b"]}, reply=True, timeout=15, limit=1)
    (answer,) = answers[0].values()
    assert "revoke tasks by their ids" in answer["ok"]


def test_cancel_consumer_keeps_one_worker_from_a_queue_and_add_consumer_gives_it_back(listening, runs, seen):
    reach(runs, send(seen, "orders.work"))
    seen.control.cancel_consumer("orders", reply=True, timeout=15, limit=1)

    def queues() -> set[str]:
        (found,) = (seen.control.inspect(timeout=15, limit=1).active_queues() or {"": []}).values()
        return {queue["name"] for queue in found}

    until(lambda: "orders" not in queues(), 30)
    runs.submit("orders.work", queue="another")  # the worker meets a new queue, and takes up that one alone
    until(lambda: "another" in queues(), 30)
    ids = send(seen, "orders.work")
    until(lambda: arrived(runs, ids), 20)
    assert runs.show(ids)[0].state == "queued"
    seen.control.add_consumer("orders", reply=True, timeout=15, limit=1)
    assert {view.state for view in reach(runs, ids)} == {"succeeded"}


def test_shutdown_ends_a_worker_in_order(listening, runs, seen, root):
    (running,) = send(seen, "orders.work", kwargs={"seconds": 1})
    wait_for_lines(root, 1, 20)
    seen.control.shutdown()
    assert listening.process.wait(60) == 0
    assert runs.show([running])[0].state in ("succeeded", "queued")


PLAIN_APP = """
    from celery import Celery

    app = Celery("shop", broker={url!r})
    app.conf.broker_transport_options = {{"global_keyprefix": "fnrun:celery:"}}
"""


@pytest.fixture
def plain(tmp_path: Path, server: TcpStore) -> Path:
    """A folder with the module of an app that says our prefix and nothing else."""
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "shop.py").write_text(dedent(PLAIN_APP).format(url=server.url))
    return folder


def test_celery_inspect_of_a_plain_app(listening, name, runs, seen, plain, root):
    (running,) = send(seen, "orders.work", kwargs={"seconds": 600})
    wait_for_lines(root, 1, 20)

    def inspect(what: str):
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "shop", "inspect", "-d", name, "--json", "--timeout", "20", what],
            cwd=plain, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (found,) = json.loads(done.stdout).values()
        return found

    assert inspect("ping") == {"ok": "pong"}
    assert {"orders.create", "orders.work"} <= set(inspect("registered"))
    (active,) = inspect("active")
    assert (active["id"], active["name"]) == (running, "orders.work")
    assert inspect("stats")["pid"] == listening.process.pid
    runs.cancel(running)
    reach(runs, [running])


def test_flower_of_a_plain_app_lists_the_worker_and_tasks_with_their_states(listening, runs, seen, plain):
    port = free_port()
    flower = subprocess.Popen(
        [
            sys.executable, "-m", "celery", "-A", "shop", "flower", "--address=127.0.0.1", f"--port={port}",
            "--inspect-timeout=2000",
        ],
        cwd=plain, env={**os.environ, "FLOWER_UNAUTHENTICATED_API": "true"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def api(path: str) -> dict:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/api/{path}", timeout=20).json()
        except (httpx.TransportError, ValueError):
            return {}

    try:

        def listed() -> dict[int, dict]:
            return {one["stats"]["pid"]: one for one in api("workers?refresh=1").values() if "stats" in one}

        # One that has just ended may be listed, too.
        found = until(lambda: listed().get(listening.process.pid), 60)
        assert {"orders.create", "orders.fail"} <= set(found["registered"])

        def states() -> dict[str, str]:
            reach(runs, send(seen, "orders.work") + send(seen, "orders.fail", args=["no"]))
            return {task["name"]: task["state"] for task in api("tasks").values()}

        until(lambda: states().items() >= {"orders.work": "SUCCESS", "orders.fail": "FAILURE"}.items(), 60)
    finally:
        flower.kill()
        flower.wait(10)
