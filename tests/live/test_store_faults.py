"""What callers of `fnrun serve` see while its store is away or refuses, and that all goes on by itself afterwards."""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from textwrap import dedent

import httpx
import msgspec
import pytest
import redis

from runtime.base.store import Store
from runtime.ledger.calls import do
from runtime.ledger.views import QueueView
from tests.chaos import TEST_PROFILE, workers_of
from tests.live_servers import Server, until
from tests.live_workers import Runs, journal
from tests.stores import Proxy, TcpStore, ask

pytestmark = [pytest.mark.live, pytest.mark.timeout(150)]

FUNCTIONS = """
    import asyncio, os
    from pathlib import Path
    from runtime import Context, http, queue, submit

    JOURNAL = os.open(Path(__file__).parents[1] / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @http.post("/work")
    @queue("default")
    async def work(ctx: Context, seconds: float = 0.0) -> str:
        os.write(JOURNAL, f"{ctx.run_id} {ctx.attempt}\\n".encode())
        await asyncio.sleep(seconds)
        return "done"

    @http.post("/submits")
    async def submits() -> str:
        return (await submit(work)).id

    @http.get("/plain")
    async def plain() -> str:
        return "plain"
"""
HEARD_SECONDS = 8.0
"""Five are promised; a busy machine adds to them."""
PLAIN_SECONDS = 4.0
"""A plain call, on a machine that is busy: less than whoever waits for the store waits."""


class Said(msgspec.Struct):
    """What a caller was answered, and after how long."""

    path: str
    status: int
    seconds: float
    retry_after: str
    run_id: str


class Site:
    """A project that is served on a shared store, with a network between that can be broken."""

    def __init__(self, root: Path, store: TcpStore, proxy: Proxy, server: Server) -> None:
        self.root, self.store, self.proxy, self.server = root, store, proxy, server
        (self.worker,) = workers_of(server)
        self._seen = 0

    def call(self, path: str) -> Said:
        began = time.monotonic()
        asks = {"/work": {"prefer": "respond-async"}}.get(path, {})
        method = "GET" if path in ("/plain", "/_/ready") else "POST"
        answer = httpx.request(method, self.server.url + path, headers=asks, timeout=20)
        seconds = time.monotonic() - began
        run_id = answer.headers.get("location", "").rpartition("/")[2] if path == "/work" else ""
        if path == "/submits" and answer.is_success:
            run_id = answer.json()
        return Said(path, answer.status_code, seconds, answer.headers.get("retry-after", ""), run_id)

    def call_all_the_time(self, stop: threading.Event, found: list[Said]) -> list[threading.Thread]:
        """Callers of each kind, some at different times."""

        def go_on(path: str, pause: float) -> None:
            while not stop.wait(pause):
                with suppress(httpx.TransportError):  # the server has ended
                    found.append(self.call(path))

        paths = [("/work", 0.0), ("/work", 0.3), ("/submits", 0.1), ("/submits", 0.7)]
        paths += [("/plain", 0.05), ("/_/ready", 0.2)]
        callers = [threading.Thread(target=go_on, args=one) for one in paths]
        for caller in callers:
            caller.start()
        return callers

    @contextmanager
    def called(self) -> Iterator[list[Said]]:
        """Within, all is called all the time; what was said is there afterwards."""
        stop, found = threading.Event(), []
        callers = self.call_all_the_time(stop, found)
        try:
            yield found
        finally:
            stop.set()
            for caller in callers:
                caller.join()

    def works(self) -> bool:
        return self.call("/work").status == 202 and self.call("/submits").status == 200

    def check(self, said: list[Said]) -> None:
        """Nothing that was accepted is lost; the worker is the one it was; who was not served was told so, in time."""
        plain = [one for one in said if one.path in ("/plain", "/_/ready")]
        assert {one.status for one in plain} == {200}
        assert max(one.seconds for one in plain) < PLAIN_SECONDS
        assert self.server.process.poll() is None
        others = [one for one in said if one not in plain]
        refused = [one for one in others if one.status == 503]
        assert {one.status for one in others} <= {200, 202, 503}
        assert {one.path for one in refused} == {"/work", "/submits"}
        assert all(one.retry_after for one in refused)
        assert max(one.seconds for one in others) < HEARD_SECONDS
        accepted = [one.run_id for one in others if one.status != 503]
        opened = Store.open(self.root, self.store.settings)
        with ExitStack() as stack:
            stack.callback(opened.close)
            runs = Runs(opened)
            stack.callback(runs.client.close)
            views = runs.reach(accepted, seconds=30) if accepted else []
            assert {(view.state, view.failures) for view in views} <= {("succeeded", 0)}
            assert {one.id for one in views} <= {run_id for run_id, _ in journal(self.root)}
            until(lambda: not any(queue.ready + queue.running for queue in self.queues(runs)), 30)
            runs.account()
        assert workers_of(self.server) == [self.worker]
        found = [line for line in self.server.lines[self._seen :] if "Traceback" in line]
        self._seen = len(self.server.lines)
        assert not found, "\n".join(found)

    def queues(self, runs: Runs) -> list[QueueView]:
        return do(runs.client, runs.ledger.queues())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("faults")) as site:
        yield site
        assert site.server.stop() == 0


@contextmanager
def served(root: Path) -> Iterator[Site]:
    """A project at work."""
    (root / "functions").mkdir()
    (root / "functions" / "jobs.py").write_text(dedent(FUNCTIONS))
    (root / "functions.toml").write_text(TEST_PROFILE)
    slowly = ("--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024", "--rdbcompression", "no")
    with TcpStore(root, *slowly) as store, Proxy(store.port) as proxy:
        environ = {"FNRUN_STORE__URL": proxy.url, "FNRUN_HTTP__BIND": "127.0.0.1:0", "FNRUN_HTTP__AUTH": "public"}
        server = Server(root, "serve", environ={**environ, "FNRUN_LOG__FORMAT": "json"}, roles=None)
        site = None
        try:
            until(lambda: "taking runs" in server.output, 30)
            site = Site(root, store, proxy, server)
            yield site
        finally:
            last = site.server if site else server
            if last.process.poll() is None:
                last.process.kill()
                last.wait()


@contextmanager
def frozen(site: Site) -> Iterator[None]:
    site.store.freeze()
    yield
    site.store.thaw()


@contextmanager
def killed(site: Site) -> Iterator[None]:
    site.store.kill()
    yield
    site.store.start()


@contextmanager
def black_hole(site: Site) -> Iterator[None]:
    site.proxy.freeze()
    yield
    site.proxy.restore()


@contextmanager
def cut(site: Site) -> Iterator[None]:
    site.proxy.cut()
    yield
    site.proxy.restore()


@pytest.mark.parametrize(("fault", "seconds"), [(frozen, 10), (black_hole, 6), (killed, 3), (cut, 2)])
def test_while_the_store_is_away_callers_are_told_so_and_plain_calls_are_served(site, fault, seconds):
    assert site.works()
    with site.called() as said, fault(site):
        time.sleep(seconds)  # it is away for so long
    until(site.works, 15)
    site.check(said)


@pytest.mark.parametrize("seconds", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_connections_that_are_reset_each_second_lose_nothing(site, seconds):
    assert site.works()
    with site.called() as said:
        for _ in range(seconds):
            time.sleep(1)  # that is how often
            site.proxy.reset_all()
    until(site.works, 15)
    accepted = [one for one in said if one.path in ("/work", "/submits") and one.status != 503]
    assert accepted
    said += [Said(path, 503, 0, "1", "") for path in ("/work", "/submits")]  # nobody has to be refused
    site.check(said)


@contextmanager
def read_only(site: Site, admin: redis.Redis) -> Iterator[None]:
    admin.replicaof("127.0.0.1", "1")
    yield
    admin.replicaof("NO", "ONE")


@contextmanager
def full(site: Site, admin: redis.Redis) -> Iterator[None]:
    admin.config_set("maxmemory", 1)
    yield
    admin.config_set("maxmemory", 0)


@contextmanager
def forbidden(site: Site, admin: redis.Redis) -> Iterator[None]:
    everything = {"enabled": True, "nopass": True, "keys": ["*"], "channels": ["*"], "categories": ["+@all"]}
    admin.acl_setuser("default", **everything, commands=["-evalsha", "-eval"])
    yield
    admin.acl_setuser("default", **everything)


@pytest.mark.parametrize(
    ("fault", "says"), [(read_only, "READONLY|read only"), (full, "maxmemory"), (forbidden, "NOPERM|permission")]
)
def test_a_store_that_refuses_is_told_and_recovered_from(site, fault, says):
    assert site.works()
    seen = len(site.server.lines)
    with redis.Redis(port=site.store.port) as admin, site.called() as said, fault(site, admin):
        until(lambda: {one.path for one in said if one.status == 503} == {"/work", "/submits"})
        until(lambda: re.search(says, "\n".join(site.server.lines[seen:])))
    until(site.works, 15)
    site.check(said)


def test_a_store_that_loads_is_waited_for(site):
    with redis.Redis(port=site.store.port) as admin:
        with admin.pipeline() as pipeline:
            for number in range(2000):
                pipeline.set(f"fnrun:celery:filler:{number}", "x" * 100)
            pipeline.execute()
        admin.bgrewriteaof()
        until(lambda: admin.info("persistence")["aof_base_size"] > 20_000)
        with site.called() as said:
            site.store.kill()
            site.store.start(wait=False)
            socket = str(site.store.socket)
            until(lambda: ask(socket, b"PING").startswith(b"-LOADING"))
            until(lambda: {one.path for one in said if one.status == 503} == {"/work", "/submits"})
            until(lambda: ask(socket, b"PING").startswith(b"+PONG"), 30)
        admin.delete(*admin.scan_iter("fnrun:celery:filler:*", count=5000))
    until(site.works, 15)
    site.check(said)


def test_scripts_that_the_store_has_forgotten_are_sent_again(site):
    with redis.Redis(port=site.store.port) as admin, site.called() as said:
        for _ in range(10):
            admin.script_flush()
            count = len(said)
            until(lambda: len(said) > count + 10)  # noqa: B023 - called at once
    assert {one.status for one in said} == {200, 202}
    said += [Said(path, 503, 0, "1", "") for path in ("/work", "/submits")]
    site.check(said)


def test_sigterm_under_load_ends_in_order_and_nothing_runs_twice(tmp_path):
    with served(tmp_path) as site:
        opened = Store.open(tmp_path, site.store.settings)
        runs = Runs(opened)
        ids = runs.submit("jobs.work", count=3000, seconds=0.05)
        with site.called() as said:
            until(lambda: len(journal(tmp_path)) > 300 and len(said) > 20)
            assert site.server.stop() == 0
        assert site.server.family() == {}
        assert not [view for view in runs.show(ids) if view.state == "running"]
        ids += [one.run_id for one in said if one.run_id]
        site.server = Server(tmp_path, "serve", environ={"FNRUN_STORE__URL": site.proxy.url}, roles="worker")
        assert {(view.state, view.crashes) for view in runs.reach(ids, seconds=60)} == {("succeeded", 0)}
        assert Counter(run_id for run_id, _ in journal(tmp_path)).most_common(1)[0][1] == 1
        assert site.server.stop() == 0
        runs.account()
        runs.client.close()
        opened.close()
