"""Names and stores that mean no good: colons, spaces, other scripts; a store that forgets, refuses, holds rubbish."""

from itertools import product
from pathlib import Path

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from runtime.base.errors import StoreDown
from runtime.ledger.calls import ado, do
from runtime.ledger.records import Submission
from tests.ledger.trial import Trial

NAMES = ["a", "b", "a:b", "b:a", "a:a:b", "1:a", "a b", " ", "é", "函数", "{a}", "*", "a\nb", "%s", "'", '"', "\\"]


def test_crafted_names_do_not_meet(trial: Trial):
    """Each function in each queue, parked, then claimed by a worker that knows it alone."""
    trial.works("nobody", "-")
    for function, queue in product(NAMES, NAMES):
        trial.accept(function, queue=queue, id=f"{function}|{queue}")
    for queue in NAMES:
        assert trial.claim("nobody", queue, slots=1000) == []
        assert trial.queue(queue).unknown == len(NAMES)
    for function in NAMES:
        trial.works(function, function)
        for queue in NAMES:
            assert trial.claim_ids(function, queue) == [f"{function}|{queue}"]
        assert sorted(trial.list_ids(function)) == sorted(f"{function}|{queue}" for queue in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_goes_the_whole_way(trial: Trial, name: str):
    trial.works(name, name, **{name: (name, name)})
    run_id = trial.accept(name, queue=name, id=name, dedupe=name, parent=name, trigger=name, trace=name)
    one = trial.claim_one(name, name)
    assert (one.id, one.function, one.queue, one.parent) == (name, name, name, name)
    trial.beat(one, name, progress=b"1")
    trial.finish(one, "retrying")
    trial.reap()
    trial.finish(trial.claim_one(name, name), "failed")
    assert trial.list_ids(name, states=["failed"]) == [run_id]
    assert trial.claim_one(name, name).id == f"{name}-failed"
    assert trial.redrive(run_id) == "queued"
    assert trial.cancel(run_id) == "cancelled"
    assert trial.purge(run_id) == "purged"


def test_namespaces_see_nothing_of_each_other(client: Redis):
    one, other = Trial(client, "one"), Trial(client, "other")
    for trial in (one, other):
        trial.works()
    run_id = one.accept()
    assert other.find(run_id) is None
    assert other.claim() == []
    assert other.list_ids() == []
    assert one.claim_ids() == [run_id]


def test_a_store_that_forgot_the_scripts_is_told_them_again(trial: Trial):
    trial.works()
    trial.client.script_flush()
    run_id = trial.accept()
    trial.client.script_flush()
    assert trial.claim_ids() == [run_id]


async def test_an_async_client_does_the_same(trial: Trial, valkey: Path):
    trial.client.script_flush()
    async with AsyncRedis(unix_socket_path=str(valkey)) as client:
        (accepted,) = await ado(client, trial.ledger.accept([Submission(id="a", function="f")]))
        assert accepted.verdict == "accepted"
        await ado(client, trial.ledger.register("w", {"f": None}, {}))
        (one,) = await ado(client, trial.ledger.claim("w", ["default"], 5)) or ()
        assert one.id == "a"


async def test_no_store_is_a_store_that_is_down(tmp_path: Path, trial: Trial):
    nowhere = {"unix_socket_path": str(tmp_path / "none")}
    with Redis(**nowhere, retry=Retry(NoBackoff(), 0)) as client, pytest.raises(StoreDown, match="does not answer"):
        do(client, trial.ledger.reap())
    async with AsyncRedis(**nowhere, retry=AsyncRetry(NoBackoff(), 0)) as client:
        with pytest.raises(StoreDown, match="does not answer"):
            await ado(client, trial.ledger.reap())


def test_a_full_store_takes_no_run_and_is_told_as_down(trial: Trial):
    trial.works()
    kept = trial.accept()
    trial.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreDown, match="maxmemory"):
            trial.accept(id="refused")
    finally:
        trial.client.config_set("maxmemory", 0)
    assert trial.find("refused") is None
    assert trial.claim_ids() == [kept]


def test_a_store_that_only_reads_is_told_as_down(trial: Trial):
    trial.client.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(StoreDown):
            trial.accept()
    finally:
        trial.client.replicaof("no", "one")


def test_a_user_without_the_right_to_write_is_told_as_down(trial: Trial, valkey: Path):
    trial.client.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], commands=["+@read"], categories=[])
    try:
        with (
            Redis(unix_socket_path=str(valkey), username="reader", password="x") as client,
            pytest.raises(StoreDown, match="permissions"),
        ):
            do(client, trial.ledger.reap())
    finally:
        trial.client.acl_deluser("reader")


def test_keys_of_another_type_are_an_error_that_names_them(trial: Trial, client: Redis):
    client.set(trial.key("ready:bad"), "rubbish")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        trial.accept(queue="bad")
    client.delete(trial.key("ready:bad"))
    client.set(trial.key("run:x"), "rubbish")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        trial.show("x")
    client.flushdb()


def test_a_store_that_lost_everything_goes_on_empty(trial: Trial):
    trial.works()
    trial.accept()
    one = trial.claim_one()
    trial.client.flushdb()
    assert trial.beat(one).lost == (one.id,)
    assert not trial.finish(one)
    assert trial.release(one) == 0
    assert trial.reap() == 0
    assert trial.list_ids() == []
    again = trial.accept()
    assert trial.claim_ids() == [again]
