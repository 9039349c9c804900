"""Keys of calls over real processes: two that serve HTTP, workers, kills, a store that is away."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.keys import key_for
from tests.live_servers import Server, until
from tests.live_workers import FAST, LEASE_SECONDS, Runs, Starts, journal, wait_for_lines, workers
from tests.stores import TcpStore

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

FUNCTIONS = """
    import asyncio, os, signal, time
    from pathlib import Path
    from runtime import Context, Retry, fn, http, queue

    JOURNAL = os.open(Path(__file__).parents[1] / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    GO = Path(__file__).parents[1] / "journal.go"

    def note(ctx):
        os.write(JOURNAL, f"{ctx.run_id} {ctx.attempt}\\n".encode())

    async def nap(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not GO.exists():
            await asyncio.sleep(0.05)

    @http.post("/order")
    async def order(sku: str, ctx: Context, seconds: float = 0.0) -> str:
        note(ctx)
        await nap(seconds)
        return ctx.run_id

    @http.post("/block")
    async def block(seconds: float, ctx: Context) -> str:
        note(ctx)
        time.sleep(seconds)
        return ctx.run_id

    @http.post("/pay")
    @queue("default")
    @fn(idempotent=lambda sku: sku)
    async def pay(sku: str, ctx: Context, seconds: float = 0.0) -> str:
        note(ctx)
        await nap(seconds)
        return ctx.run_id

    @queue("default")
    @fn(isolation="process", idempotent=lambda sku: sku)
    def apart(sku: str, ctx: Context) -> list:
        note(ctx)
        return [ctx.run_id, os.getpid()]

    @queue("default")
    @fn(idempotent=lambda sku: sku)
    async def murders(sku: str, ctx: Context) -> str:
        note(ctx)
        if len((Path(__file__).parents[1] / "journal").read_text().splitlines()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return ctx.run_id
"""

NOT_YET = (409, 503)
"""Ask again: another call is under way; the store has not answered, on a busy machine."""

Serves = Callable[..., Server]


@pytest.fixture
def root(write_project: Callable[..., Path]) -> Path:
    return write_project(**{"functions/app.py": FUNCTIONS})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TcpStore]:
    # As the embedded one: with everysec, what was answered while a sync was under way is lost with the process.
    with TcpStore(tmp_path, "--appendfsync", "no") as server:
        yield server


@pytest.fixture
def work(root: Path, server: TcpStore, runs: Runs) -> Iterator[Starts]:
    with workers(root, server.url) as start:
        yield start


@pytest.fixture
def token(root: Path) -> str:
    return key_for(root, "invoke")


@pytest.fixture
def serve(root: Path, server: TcpStore, start: Serves, token: str) -> Serves:
    """Serve HTTP on the store, one process each time."""
    return lambda: start(
        root,
        "serve",
        "--bind",
        "127.0.0.1:0",
        environ={"FNRUN_STORE__URL": server.url, "FNRUN_LOG__FORMAT": "json", **FAST},
    )


def post(url: str, path: str, token: str, key: str = "", **said: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"} | ({"idempotency-key": key} if key else {})
    return httpx.post(url + path, json=said, headers=headers, timeout=30)


def final(call: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer to a call that is asked for again as long as there is none."""
    found: list[httpx.Response] = []

    def ends() -> bool:
        found.append(call())
        return found[-1].status_code not in NOT_YET

    until(ends, 60)
    return found[-1]


@pytest.mark.parametrize("path", ["/order", "/pay"])
def test_of_100_calls_over_two_processes_and_two_callers_one_is_carried_out(root, serve, token, path: str):
    other = key_for(root, "invoke")
    urls = [one.url for one in (serve(), serve())]
    places = [(url, caller) for url in urls for caller in (token, other)] * 25
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda one: post(one[0], path, one[1], "k1", sku="x", seconds=0.2), places))
    assert set(Counter(answer.status_code for answer in found)) <= {200, *NOT_YET}
    assert all(answer.headers["retry-after"] == "1" for answer in found if answer.status_code == 409)
    last = [final(lambda one=one: post(one[0], path, one[1], "k1", sku="x", seconds=0.2)).json() for one in places[:4]]
    assert last[:2] == last[2:]
    assert {answer.json() for answer in found if answer.status_code == 200} <= set(last)
    carried_out = {run_id for run_id, _ in journal(root)}
    assert carried_out == set(last)
    assert len(journal(root)) == (2 if path == "/order" else 1)  # a header is its caller's, idempotent= is everybody's


@pytest.mark.parametrize("path", ["/order", "/pay"])
def test_what_a_killed_process_had_begun_is_carried_out_by_the_next_call(root, serve, token, path: str):
    first, second = serve(), serve()
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(post, first.url, path, token, "k1", sku="x", seconds=60.0)
        wait_for_lines(root, 1)
        early = post(second.url, path, token, "k1", sku="x", seconds=60.0)
        assert (early.status_code, early.headers["retry-after"]) == (409, "1")
        os.kill(first.serving, signal.SIGKILL)
        assert isinstance(cut.exception(timeout=15), httpx.TransportError)
    (root / "journal.go").touch()
    again = final(lambda: post(second.url, path, token, "k1", sku="x", seconds=60.0))
    assert [run_id for run_id, _ in journal(root)][1:] == [again.json()]
    assert "idempotency-replayed" not in again.headers
    assert final(lambda: post(second.url, path, token, "k1", sku="x", seconds=60.0)).json() == again.json()


def test_a_loop_that_is_blocked_for_longer_than_its_lease_keeps_its_key(root, serve, token):
    first, second = serve(), serve()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(post, first.url, "/block", token, "k1", seconds=7.0)
        wait_for_lines(root, 1)
        answer = final(lambda: post(second.url, "/block", token, "k1", seconds=7.0))
        assert slow.result(30).json() == answer.json()
    assert answer.headers["idempotency-replayed"] == "true"
    assert len(journal(root)) == 1


def test_a_client_that_gave_up_waiting_gets_its_answer_when_it_asks_again(root, serve, token):
    url = serve().url
    headers = {"authorization": f"Bearer {token}", "idempotency-key": "k1"}
    said = {"sku": "x", "seconds": 60.0}
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{url}/order", json=said, headers=headers, timeout=1)
    wait_for_lines(root, 1)
    (root / "journal.go").touch()
    assert final(lambda: post(url, "/order", token, "k1", **said)).json() == journal(root)[0][0]
    assert len(journal(root)) == 1


def test_a_process_that_stood_still_for_longer_than_its_lease_finds_its_key_taken(root, serve, token):
    first, second = serve(), serve()
    said = {"sku": "x", "seconds": 60.0}
    with ThreadPoolExecutor(2) as pool:
        late = pool.submit(post, first.url, "/order", token, "k1", **said)
        wait_for_lines(root, 1)
        process = first.serving
        os.kill(process, signal.SIGSTOP)
        again = pool.submit(final, lambda: post(second.url, "/order", token, "k1", **said))
        wait_for_lines(root, 2, 30)
        os.kill(process, signal.SIGCONT)
        answer = late.result(30)
        assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
        (root / "journal.go").touch()
        kept = again.result(30).json()
    assert final(lambda: post(first.url, "/order", token, "k1", **said)).json() == kept == journal(root)[1][0]


def test_while_the_store_is_away_nothing_with_a_key_is_carried_out(root, serve, token, server: TcpStore):
    http = serve()
    assert post(http.url, "/order", token, "k1", sku="x").status_code == 200
    server.kill()
    for path, key in (("/order", "k1"), ("/order", "k2"), ("/pay", "")):
        answer = post(http.url, path, token, key, sku="x")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert post(http.url, "/order", token, sku="x").status_code == 200
    assert len(journal(root)) == 2
    server.start()
    until(lambda: post(http.url, "/order", token, "k1", sku="x").headers.get("idempotency-replayed"), 30)
    assert len(journal(root)) == 2


def test_a_call_outlives_the_store_and_its_answer_is_kept_when_that_is_back(root, serve, token, server: TcpStore):
    first, second = serve(), serve()
    said, other = {"sku": "x", "seconds": 60.0}, second.url  # it is up before the store goes
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(post, first.url, "/order", token, "k1", **said)
        wait_for_lines(root, 1)
        server.kill()
        again = pool.submit(final, lambda: post(other, "/order", token, "k1", **said))
        time.sleep(LEASE_SECONDS + 1)  # it is away for longer than the lease
        (root / "journal.go").touch()
        answer = call.result(30)
        server.start()
        assert answer.json() == again.result(60).json()
    assert answer.status_code == 200
    assert len(journal(root)) == 1


def test_of_100_runs_and_calls_over_two_workers_one_is_executed(root, work, serve, token, runs: Runs):
    work()
    work()
    url = serve().url
    with ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(post, url, "/pay", token, sku="x", seconds=1.0) for _ in range(10)]
        ids = runs.submit("app.pay", count=90, sku="x", seconds=1.0)
        found = runs.reach(ids, seconds=60)
        codes = {call.result().status_code for call in calls}
    (executed,) = journal(root)
    assert {(view.state, bytes(view.result or b""), view.failures) for view in found} == {
        ("succeeded", msgspec.json.encode(executed[0]), 0)
    }
    assert codes <= {200, *NOT_YET}
    assert final(lambda: post(url, "/pay", token, sku="x", seconds=1.0)).json() == executed[0]


def test_what_a_killed_worker_had_begun_keeps_its_key_and_is_executed_again(root, work, runs: Runs):
    work()
    ids = runs.submit("app.murders", sku="x")
    wait_for_lines(root, 1)
    work()
    ids += runs.submit("app.murders", count=5, sku="x")
    found = runs.reach(ids, seconds=60)
    assert {(view.state, bytes(view.result or b"")) for view in found} == {("succeeded", msgspec.json.encode(ids[0]))}
    assert journal(root) == [(ids[0], 1), (ids[0], 1)]


def test_those_that_have_a_process_to_themselves_heed_their_keys(root, work, runs: Runs):
    worker = work()
    found = runs.reach(runs.submit("app.apart", count=5, sku="x"), seconds=60)
    (executed,) = journal(root)
    results = {bytes(view.result or b"") for view in found}
    assert [view.state for view in found] == ["succeeded"] * 5
    (run_id, pid) = msgspec.json.decode(results.pop())
    assert (run_id, results) == (executed[0], set())
    assert pid != worker.process.pid
