"""Lines of runs in the store: kept with their run, the newest of them, and gone with it."""

import threading

import msgspec
import pytest
from redis import Redis

from runtime.base.errors import StoreDown
from runtime.base.logs.lines import Line
from runtime.ledger.calls import do
from runtime.ledger.desk import Desk
from runtime.ledger.lines.calls import Lines, keep_lines, read_lines
from runtime.ledger.lines.keeper import Bounds, RunLines
from runtime.ledger.records import Ending
from tests.desks import Worker, submit
from tests.live_servers import until


def line(text: object) -> bytes:
    return msgspec.json.encode(Line(time=1.0, level="info", text=str(text)))


def keep(desk: Desk, run_id: str, texts, *, most: int = 1000, most_bytes: int = 1_000_000) -> None:
    lines = {run_id: [line(text) for text in texts]}
    for call in keep_lines(desk.ledger, lines, most=most, most_bytes=most_bytes):
        desk.ask_sync(call)


def read(desk: Desk, run_id: str, **said: int) -> Lines:
    found = desk.ask_sync(read_lines(desk.ledger, run_id, **said))
    assert found is not None
    return found


def texts_of(found: Lines) -> list[str]:
    return [one.line.text for one in found.lines]


@pytest.fixture
def worker(desk: Desk) -> Worker:
    return Worker(desk, "shop.sell")


def test_lines_are_read_in_order_from_where_one_was(desk: Desk):
    run_id = submit(desk, "shop.sell")
    assert read(desk, run_id) == Lines(lines=(), total=0, kept=0, next=0, is_finished=False)
    keep(desk, run_id, "abc")
    keep(desk, run_id, "de")
    assert texts_of(read(desk, run_id)) == list("abcde")
    first = read(desk, run_id, limit=2)
    assert (texts_of(first), first.next) == (["a", "b"], 2)
    second = read(desk, run_id, after=first.next)
    assert (texts_of(second), second.next, second.lines[0].number) == (["c", "d", "e"], 5, 3)
    assert texts_of(read(desk, run_id, after=5)) == []
    assert texts_of(read(desk, run_id, after=-2)) == ["d", "e"]


def test_the_newest_are_kept_by_number_and_by_bytes(desk: Desk):
    run_id = submit(desk, "shop.sell")
    keep(desk, run_id, range(5000), most=100)
    found = read(desk, run_id)
    assert (texts_of(found)[0], found.total, found.kept, found.dropped) == ("4900", 5000, 100, 4900)
    assert texts_of(read(desk, run_id, after=10))[0] == "4900"  # who reads slowly goes on with what there is
    keep(desk, run_id, ["x" * 500] * 10, most_bytes=2000)
    found = read(desk, run_id)
    assert (set(texts_of(found)), found.kept, found.total) == ({"x" * 500}, 3, 5010)
    keep(desk, run_id, ["y" * 5000], most_bytes=2000)
    assert texts_of(read(desk, run_id)) == ["y" * 5000]  # one is kept, however long


def test_they_live_as_long_as_their_run_and_are_purged_with_it(desk: Desk, worker: Worker, client: Redis):
    run_id = submit(desk, "shop.sell")
    run = worker.claim()
    keep(desk, run_id, "a")
    worker.finish(run)
    key, of_run = (f"{desk.ledger.prefix}{kind}:{run_id}" for kind in ("lines", "run"))
    assert abs(client.pttl(key) - client.pttl(of_run)) < 10_000
    keep(desk, run_id, "b")  # late
    assert abs(client.pttl(key) - client.pttl(of_run)) < 10_000
    assert read(desk, run_id).is_finished
    desk.ask_sync(desk.ledger.purge([run_id]))
    assert not client.exists(key)
    keep(desk, run_id, "c")
    assert not client.exists(key)
    assert desk.ask_sync(read_lines(desk.ledger, run_id)) is None


def test_a_run_that_is_done_again_goes_on_with_its_lines(desk: Desk, worker: Worker):
    run_id = submit(desk, "shop.sell")
    keep(desk, run_id, "a")
    worker.fail(worker.claim())
    desk.ask_sync(desk.ledger.redrive([run_id]))
    keep(desk, run_id, "b")
    worker.finish(worker.claim())
    assert texts_of(read(desk, run_id)) == ["a", "b"]


# --- the keeper --------------------------------------------------------------------------------------------------


def keeper_of(desk: Desk, client: Redis, *mine: str, **bounds: int) -> RunLines:
    return RunLines(client, desk.ledger, Bounds(**bounds), lambda run_id: run_id in mine)


def ended(run_id: str) -> Ending:
    return Ending(id=run_id, token=1, attempt=1, state="succeeded")


async def test_all_lines_are_there_before_the_end_is_written(desk: Desk, client: Redis):
    run_id, other = submit(desk, "shop.sell"), submit(desk, "shop.sell")
    keeper, seen = keeper_of(desk, client, run_id, other), []

    async def send(endings):
        seen.extend(texts_of(read(desk, one.id)) for one in endings)
        return [True]

    for n in range(3):
        keeper.add(run_id, line(n))
    keeper.add(other, line("later"))
    keeper.add("not ours", line("lost"))
    assert await keeper.before(send, desk.ask)([ended(run_id)]) == [True]
    assert seen == [["0", "1", "2"]]
    assert texts_of(read(desk, other)) == []
    await desk.aclose()


async def test_an_outage_of_the_store_loses_none_and_holds_up_nobody(desk: Desk, client: Redis):
    run_id = submit(desk, "shop.sell")
    keeper = keeper_of(desk, client, run_id)
    keeper.add(run_id, line(1))

    async def down(_):
        raise StoreDown("away")

    async def send(_):
        return [True]

    with pytest.raises(StoreDown):
        await keeper.before(send, down)([ended(run_id)])
    keeper.add(run_id, line(2))
    await keeper.before(send, desk.ask)([ended(run_id)])
    assert texts_of(read(desk, run_id)) == ["1", "2"]
    await desk.aclose()


async def test_lines_that_were_kept_though_the_answer_was_lost_are_not_kept_twice(desk: Desk, client: Redis):
    run_id = submit(desk, "shop.sell")
    keeper = keeper_of(desk, client, run_id, lines=3)

    async def deaf(call):
        await desk.ask(call)
        raise StoreDown("its answer was lost")

    async def send(_):
        return [True]

    for n in range(3):
        keeper.add(run_id, line(n))
    with pytest.raises(StoreDown):
        await keeper.before(send, deaf)([ended(run_id)])
    with pytest.raises(StoreDown):
        await keeper.before(send, deaf)([ended(run_id)])
    keeper.add(run_id, line(3))
    await keeper.before(send, desk.ask)([ended(run_id)])
    found = read(desk, run_id)
    assert (texts_of(found)[-2:], texts_of(found).count("2")) == (["2", "3"], 1)
    await desk.aclose()


def test_lines_of_a_long_run_come_while_it_runs_and_too_many_are_told(desk: Desk, client: Redis):
    run_id = submit(desk, "shop.sell")
    keeper = keeper_of(desk, client, run_id, lines=50)
    keeper.start()
    try:
        threads = [threading.Thread(target=lambda: [keeper.add(run_id, line(n)) for n in range(500)]) for _ in range(4)]
        for one in (*threads, *threads):
            one.start() if not one.is_alive() and one.ident is None else one.join()
        until(lambda: texts_of(read(desk, run_id)), 15)
        until(lambda: texts_of(read(desk, run_id))[-1] == "499", 15)
    finally:
        keeper.stop(15)
    found = read(desk, run_id)
    assert found.kept <= 50
    assert found.dropped > 0 or "lines were left out" in texts_of(found)[0]


def test_nothing_is_kept_where_nothing_is_to_be(desk: Desk, client: Redis):
    keeper = keeper_of(desk, client, "r", lines=0)
    keeper.start()
    keeper.stop(1)
    assert not keeper._thread.is_alive()


def test_the_calls_of_many_lines_are_bounded(desk: Desk, client: Redis):
    run_id = submit(desk, "shop.sell")
    calls = list(keep_lines(desk.ledger, {run_id: [line(n) for n in range(5000)]}, most=10_000, most_bytes=10**9))
    assert len(calls) == 3
    for call in calls:
        do(client, call)
    assert texts_of(read(desk, run_id, limit=10_000)) == [str(n) for n in range(5000)]
