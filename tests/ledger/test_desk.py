"""The desk: connections, shared calls, waiting for the end, and a store that goes away."""

import asyncio
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis

from runtime.base.errors import StartError, StoreDown, UnknownRun
from runtime.ledger import desk as desks
from runtime.ledger import endings
from runtime.ledger import run as run_module
from runtime.ledger.desk import Desk, current, use
from runtime.ledger.records import Accepted, Submission
from runtime.ledger.run import current_desk, make_desk_with
from tests.desks import desk_in_use
from tests.ledger.trees import chain, step, submission
from tests.ledger.trial import Trial
from tests.live_servers import until
from tests.stores import Proxy


@pytest.fixture
def proxy(valkey: Path) -> Iterator[Proxy]:
    with Proxy(valkey) as proxy:
        yield proxy


@pytest.fixture
def far_desk(proxy: Proxy, trial: Trial) -> Iterator[Desk]:
    """A desk on the same store, behind a network that can be broken."""
    with desk_in_use(proxy.url, trial.namespace, trial.ledger) as desk:
        yield desk


def run(run_id: str, **fields) -> Submission:
    return Submission(id=run_id, function="f", **fields)


def calls_of(client: Redis, name: str = "evalsha") -> int:
    return client.info("commandstats").get(f"cmdstat_{name}", {}).get("calls", 0)


async def test_what_is_accepted_is_there_and_known_the_second_time(desk, trial):
    assert await desk.accept(run("a")) == Accepted("a")
    assert trial.state("a") == "queued"
    assert await desk.accept(run("a")) == Accepted("a", "known")
    assert desk.ask_sync(desk.ledger.cancel(["a", "b"])) == ["cancelled", "unknown"]


async def test_submissions_of_one_turn_share_a_call(desk, client):
    await desk.accept(run("first"))
    before = calls_of(client)
    found = await asyncio.gather(*(desk.accept(run(f"r{n}")) for n in range(250)))
    assert [one.id for one in found] == [f"r{n}" for n in range(250)]
    assert calls_of(client) - before == 3
    before = calls_of(client)
    views = await asyncio.gather(*(desk.show(f"r{n}") for n in range(50)))
    assert [view.id for view in views if view] == [f"r{n}" for n in range(50)]
    assert calls_of(client) - before == 1


async def test_who_is_cancelled_takes_no_other_along(desk, trial):
    tasks = [asyncio.create_task(desk.accept(run(f"r{n}"))) for n in range(3)]
    await asyncio.sleep(0)  # all have asked; nothing was sent
    tasks[0].cancel()
    assert await asyncio.gather(*tasks[1:]) == [Accepted("r1"), Accepted("r2")]
    assert trial.find("r0") is None
    late = asyncio.create_task(desk.accept(run("late")))
    other = asyncio.create_task(desk.accept(run("other")))
    await asyncio.sleep(0.001)  # sent, most likely: it may be accepted or not, but the other is
    late.cancel()
    assert await other == Accepted("other")


async def test_many_are_accepted_a_hundred_at_a_time(desk, trial, client):
    before = calls_of(client)
    found = await desk.accept_all([run(f"r{n}") for n in range(250)])
    assert len(found) == 250
    assert calls_of(client) - before == 3


def test_each_loop_has_its_own_connections_and_leaves_none(desk, client):
    def connections() -> int:
        return len(client.client_list())

    async def some(name: str) -> None:
        await asyncio.gather(*(desk.accept(run(f"{name}{n}")) for n in range(5)))
        assert await desk.show(f"{name}0")
        assert await desk.finished(f"{name}0", 0) is None

    before = connections()
    asyncio.run(some("a"))
    asyncio.run(some("b"))
    threads = [threading.Thread(target=asyncio.run, args=(some(f"t{n}"),)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(desk._own.lines) == 0
    until(lambda: connections() == before)


async def test_a_loop_may_close_its_connections_early(desk):
    await desk.accept(run("a"))
    await desk.aclose()
    await desk.aclose()
    assert await desk.show("a")


def test_a_child_of_a_fork_makes_connections_of_its_own(desk, trial):
    async def parent() -> None:
        await desk.accept(run("before"))
        desk.ask_sync(desk.ledger.show(["before"]))
        pid = os.fork()
        if pid == 0:
            code = 1
            with suppress(BaseException):
                thread = threading.Thread(target=asyncio.run, args=(desk.accept(run("child")),))
                thread.start()
                thread.join()
                code = 0 if desk.ask_sync(desk.ledger.show(["child"]))[0] else 2
            os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        await desk.accept(run("after"))
        assert desk.ask_sync(desk.ledger.show(["after"]))[0]

    asyncio.run(parent())
    assert trial.state("before") == trial.state("child") == trial.state("after") == "queued"
    assert multiprocessing.active_children() == []


async def listening(client, trial: Trial, *ids: str) -> None:
    """Wait until somebody listens for the ends of these runs."""
    wanted = {f"{trial.namespace}:done:{one}".encode() for one in ids}
    await asyncio.to_thread(until, lambda: wanted <= set(client.pubsub_channels(f"{trial.namespace}:done:*")))


def listeners(client) -> set[str]:
    """The connections that listen."""
    return {one["id"] for one in client.client_list() if int(one["sub"])}


async def test_the_end_of_a_run_is_heard_at_once(desk, trial, client, monkeypatch):
    monkeypatch.setattr(desks, "_LOOK_SECONDS", 60.0)  # it does not look, but hear
    trial.works()
    ids = [trial.accept() for _ in range(20)]
    waiting = [asyncio.create_task(desk.finished(run_id, 30)) for run_id in ids + ids[:5]]
    await listening(client, trial, *ids)
    claimed = trial.claim(slots=20)
    began = time.monotonic()
    for one in claimed:
        trial.finish(one, result=b'"done"')
    views = await asyncio.gather(*waiting)
    assert {view.state for view in views} == {"succeeded"}
    assert time.monotonic() - began < 20
    view = await desk.finished(ids[0], None)
    assert bytes(view.result) == b'"done"'


async def test_a_run_that_is_not_over_in_time_is_none(desk, trial):
    run_id = trial.accept()
    began = time.monotonic()
    assert await desk.finished(run_id, 0) is None
    assert await desk.finished(run_id, 0.3) is None
    assert 0.3 <= time.monotonic() - began < 10
    with pytest.raises(UnknownRun, match='no run "nobody"'):
        await desk.finished("nobody", 5)


async def test_one_connection_listens_for_all_and_forgets_who_has_left(desk, trial, client):
    run_id, other = trial.accept(), trial.accept()
    for _ in range(3):
        assert await desk.finished(run_id, 0.05) is None
    waiting = [asyncio.create_task(desk.finished(other, 5)) for _ in range(10)]
    channel = f"{trial.namespace}:done:{other}"
    await asyncio.to_thread(until, lambda: channel.encode() in client.pubsub_channels(channel))
    assert len([one for one in client.client_list() if int(one["sub"])]) == 1
    trial.cancel(other)
    assert {view.state for view in await asyncio.gather(*waiting)} == {"cancelled"}


async def test_waiting_survives_lost_connections(far_desk, proxy, trial, client):
    trial.works()
    run_id, other = trial.accept(), trial.accept()
    waiting = asyncio.create_task(far_desk.finished(run_id, 30))
    later = asyncio.create_task(far_desk.finished(other, 30))
    await listening(client, trial, run_id, other)
    proxy.cut()
    await asyncio.to_thread(until, lambda: not listeners(client))
    [one, two] = trial.claim(slots=2)
    trial.finish(one)  # said while nobody hears
    proxy.restore()
    assert (await waiting).state == "succeeded"
    await listening(client, trial, other)
    before = listeners(client)
    proxy.reset_all()
    await asyncio.to_thread(until, lambda: listeners(client) - before)
    await listening(client, trial, other)
    trial.finish(two)
    assert (await later).state == "succeeded"


async def test_waiting_for_a_store_that_stays_away_says_so(far_desk, proxy, trial):
    run_id = trial.accept()
    proxy.cut()
    with pytest.raises(StoreDown):
        await far_desk.finished(run_id, 0.5)


async def test_a_frozen_store_is_down_within_5_seconds_for_all_who_ask(far_desk, proxy):
    await far_desk.accept(run("warm"))
    proxy.freeze()
    began = time.monotonic()

    async def later() -> Accepted:
        await asyncio.sleep(1)  # it comes while the others wait
        return await far_desk.accept(run("later"))

    tasks = [asyncio.create_task(far_desk.accept(run(f"r{n}"))) for n in range(150)]
    tasks += [asyncio.create_task(later()), asyncio.create_task(far_desk.ask(far_desk.ledger.queues()))]
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(one) for one in found} == {StoreDown}
    assert time.monotonic() - began < 5
    proxy.restore()
    assert (await far_desk.accept(run("again"))).verdict == "accepted"


async def test_an_accept_whose_answer_is_lost_is_repeated_with_the_same_id(far_desk, proxy, trial, monkeypatch):
    await far_desk.accept(run("warm"))
    asked = []
    real = desks.ado

    async def lossy(client, call):
        found = await real(client, call)
        asked.append(call)
        if len(asked) == 1:
            raise StoreDown("the answer was lost")
        return found

    monkeypatch.setattr(desks, "ado", lossy)
    assert (await far_desk.accept(run("once"))).id == "once"
    assert len(asked) == 2
    assert trial.list_ids() == ["once", "warm"]
    asked.clear()
    assert (await far_desk.accept_flow(submission(chain(step()), id="flow"))).id == "flow"
    assert len(asked) == 2
    assert trial.list_ids() == ["flow-1", "flow", "once", "warm"]


async def test_a_store_that_is_away_says_so_at_once_and_is_found_again(far_desk, proxy):
    await far_desk.accept(run("warm"))
    proxy.cut()
    began = time.monotonic()
    with pytest.raises(StoreDown):
        await far_desk.accept(run("a"))
    with pytest.raises(StoreDown):
        far_desk.ask_sync(far_desk.ledger.queues())
    assert time.monotonic() - began < 4  # a store that says nothing has 4.5 s
    proxy.restore()
    assert (await far_desk.accept(run("a"))).verdict == "accepted"
    assert [queue.ready for queue in far_desk.ask_sync(far_desk.ledger.queues())] == [2]


def test_a_process_without_a_project_has_no_desk(tmp_path, monkeypatch):
    monkeypatch.setenv("FNRUN_DIR", str(tmp_path))
    monkeypatch.delitem(sys.modules, "functions", raising=False)
    use(None)
    with pytest.raises(StartError, match=r"there is no functions/ folder in .*; run the script in|or set FNRUN_DIR"):
        current()


def test_a_desk_is_made_when_it_is_first_asked_for(desk, monkeypatch):
    made: list[Desk] = []
    monkeypatch.setattr(run_module, "_make_desk", None)
    use(None)
    make_desk_with(lambda: made.append(desk) or desk)
    assert made == []
    assert current_desk() is current_desk() is current() is desk
    assert made == [desk]


def test_a_desk_is_closed_though_a_loop_is_stuck(desk):
    done = threading.Event()

    stuck = threading.Event()

    async def get_stuck() -> None:
        await desk.accept(run("a"))
        stuck.set()
        done.wait(20)

    thread = threading.Thread(target=asyncio.run, args=(get_stuck(),))
    thread.start()
    assert stuck.wait(5)
    began = time.monotonic()
    desk.close()
    assert time.monotonic() - began < 10
    done.set()
    thread.join()


def pings(client) -> int:
    return client.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"]


async def test_a_quiet_line_is_asked_whether_it_lives_and_ends_when_nobody_waits(desk, trial, client, monkeypatch):
    monkeypatch.setattr(endings, "_QUIET_SECONDS", 0.05)
    trial.works()
    run_id = trial.accept()
    waiting = asyncio.create_task(desk.finished(run_id, 30))
    await listening(client, trial, run_id)
    [line] = listeners(client)
    before = pings(client)
    await asyncio.to_thread(until, lambda: pings(client) >= before + 3)
    assert listeners(client) == {line}
    trial.finish(trial.claim_one())
    assert (await waiting).state == "succeeded"
    await asyncio.to_thread(until, lambda: not [one for one in client.client_list() if int(one["sub"])])
    assert (await desk.finished(run_id, 5)).state == "succeeded"


async def test_a_line_that_is_dead_without_a_word_is_made_again(far_desk, proxy, trial, client, monkeypatch):
    monkeypatch.setattr(endings, "_QUIET_SECONDS", 0.1)
    trial.works()
    run_id = trial.accept()
    waiting = asyncio.create_task(far_desk.finished(run_id, 30))
    await listening(client, trial, run_id)
    proxy.freeze()
    await asyncio.sleep(0.5)  # for so long nothing comes: five times what is quiet
    trial.finish(trial.claim_one())
    proxy.restore()
    assert (await waiting).state == "succeeded"


def test_a_loop_may_end_while_something_is_asked(desk, trial):
    tasks = []

    async def leave() -> None:
        await desk.accept(run("a"))
        tasks.extend(asyncio.create_task(desk.accept(run(f"r{n}"))) for n in range(150))
        tasks.append(asyncio.create_task(desk.finished("a", 30)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(leave())
    assert all(task.cancelled() for task in tasks)
    assert trial.state("a") == "queued"
