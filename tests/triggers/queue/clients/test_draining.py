"""Lists of Celery's own clients are drained into the ledger: what a worker's thread does, step by step."""

from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from runtime.base.errors import StoreDown
from runtime.ledger.calls import do
from runtime.projects import load_project
from runtime.triggers.queue.clients.draining import Draining, keys_of
from runtime.triggers.queue.clients.messages import run_id_of
from runtime.triggers.queue.parts import Options
from runtime.triggers.queue.plans import RunPlan, plan_runs
from tests.celery_clients import celery_client, socket_url
from tests.ledger.trial import Trial

FUNCTIONS = """
    from runtime import fn, http, queue

    @queue("orders")
    async def create(customer: str = ""): ...

    @http.get("/plain")
    async def plain(): ...
"""


@pytest.fixture
def plans(write_project: Callable[..., Path]) -> dict[str, RunPlan]:
    project = load_project(write_project(**{"functions/shop.py": FUNCTIONS}))
    return plan_runs(project.registry.functions.values())


@pytest.fixture
def drain(trial: Trial, plans: dict[str, RunPlan]) -> Callable[..., Draining]:
    def drain(**options) -> Draining:
        said = {"celery_prefix": "", "max_length": 1000, **options}
        return Draining(trial.client, trial.ledger, Options(worker="w", **said), lambda: plans)

    return drain


def send(app: Celery, count: int = 1, queue: str = "orders", **options) -> list[str]:
    return [app.send_task("shop.create", queue=queue, **options).id for _ in range(count)]


def drain_all(draining: Draining) -> None:
    while draining.step() == 0.0:
        pass


def waiting(client: Redis, *keys: str) -> list[int]:
    return [client.llen(key) for key in keys or ("orders",)]


def test_all_that_was_sent_is_drained_in_order(app, drain, trial):
    ids = send(app, 250)
    drain_all(drain())
    assert waiting(trial.client) == [0]
    trial.works("w", "shop.create")
    assert trial.claim_ids("w", "orders", slots=1000) == ids


def test_with_nothing_there_it_looks_again_soon(drain):
    assert 0 < drain().step() <= 0.2


def test_every_priority_has_a_list_that_is_drained(app, drain, trial):
    app.conf.broker_transport_options = {"priority_steps": list(range(10))}
    ids = [send(app, priority=priority)[0] for priority in range(10)]
    drain_all(drain())
    assert {trial.show(one).priority for one in ids} == set(range(1, 10))
    assert waiting(trial.client, *keys_of("", "orders")) == [0] * 10


def test_two_that_drain_at_once_make_each_message_one_run(app, drain, trial):
    ids = send(app, 300)
    one, other = drain(), drain()
    looked_at = [one._read(found) for found in do(trial.client, trial.ledger.peek(one._keys(), 10_000))]
    drain_all(other)
    assert set(do(trial.client, trial.ledger.adopt(looked_at))) == {"gone"}
    assert sorted(trial.list_ids("shop.create")) == sorted(ids)


def test_only_declared_queues_are_drained_outside_of_the_namespace(app, drain, trial):
    send(app, queue="default")
    send(app, queue="others")
    drain_all(drain())
    assert waiting(trial.client, "default", "others") == [1, 1]
    trial.client.delete("default", "others")


def test_default_is_drained_once_a_function_declares_it(app, drain, trial, plans, write_project):
    root = write_project(**{"functions/shop.py": FUNCTIONS.replace('@queue("orders")', '@queue("default")')})
    plans |= plan_runs(load_project(root).registry.functions.values())
    (one,) = send(app, queue="default")
    drain_all(drain())
    assert trial.state(one) == "queued"


def test_in_the_namespace_every_queue_of_a_function_is_drained(client, drain, trial):
    with celery_client(socket_url(client), trial.key("celery:")) as app:
        ids = send(app, queue="default") + send(app, queue="orders")
    drain_all(drain())
    assert {trial.state(one) for one in ids} == {"queued"}
    for key in client.scan_iter("*kombu*"):
        client.delete(key)


def test_another_prefix(client, app, drain, trial):
    send(app)
    with celery_client(socket_url(client), "shop-") as other:
        ids = send(other)
    drain_all(drain(celery_prefix="shop-"))
    assert trial.list_ids("shop.create") == ids
    assert waiting(client) == [1]
    client.delete("orders")


def test_a_worker_of_other_queues_leaves_a_queue_alone(app, drain, trial):
    send(app)
    drain_all(drain(queues=("others",)))
    assert waiting(trial.client) == [1]
    drain_all(drain(queues=("orders",)))
    assert waiting(trial.client) == [0]


def test_a_full_queue_is_left_alone_for_a_while_and_said_once(app, drain, trial, log):
    send(app, 5)
    draining = drain(max_length=2)
    drain_all(draining)
    drain_all(draining)
    assert waiting(trial.client) == [3]
    assert [line["queue"] for line in log.entries] == ["orders"]
    draining._full["orders"] -= 1.0  # as if the second were over
    drain_all(draining)
    assert len(log.entries) == 1
    trial.works("w", "shop.create")
    for one in trial.claim("w", "orders", slots=2):
        trial.finish(one)
    draining._full["orders"] -= 1.0
    drain_all(draining)
    assert waiting(trial.client) == [1]
    trial.client.delete("orders")


def test_what_is_revoked_is_cancelled_now_or_when_it_comes(app, drain, trial):
    draining = drain()
    (known,) = send(app)
    drain_all(draining)
    assert draining.revoke([known]) == {known: "cancelled"}
    assert draining.revoke(["early"]) == {"early": "unknown"}
    send(app, task_id="early")
    drain_all(draining)
    assert trial.state("early") == "cancelled"
    assert draining.revoke(["order/1"]) == {"order/1": "unknown"}  # which no run can be called
    (one,) = send(app, task_id="order/1")
    drain_all(draining)
    assert trial.state(run_id_of(one, "")) == "cancelled"
    assert draining.revoke([one]) == {one: "finished"}


def test_a_dead_letter_is_told_of_in_the_log(app, drain, trial, log):
    (one,) = send(app, serializer="pickle")
    drain_all(drain())
    view = trial.show(one)
    assert (view.state, view.reason) == ("failed", "bad message")
    assert view.failure.message in log.entries[0]["reason"]
    assert b"application/x-python-serialize" in bytes(view.payload)


@pytest.mark.parametrize("size", [900_000, 1_200_000, 2_500_000])
@pytest.mark.parametrize("protocol", [1, 2])
def test_a_task_that_is_too_long_is_kept_under_its_id(app, drain, trial, size, protocol):
    app.conf.task_protocol = protocol
    (one,) = send(app, args=["c" * size], task_id="long-1")
    (raw,) = trial.client.lrange("orders", 0, -1)
    drain_all(drain(payload_max=800_000))
    view = trial.show(one)
    assert (view.id, view.state, view.reason) == ("long-1", "failed", "bad message")
    assert view.function == ("celery:message" if protocol == 1 else "shop.create")
    assert "payload_max, which is 800000" in view.failure.message
    assert bytes(view.payload) == raw
    assert waiting(trial.client) == [0]


def test_a_user_that_may_not_read_other_keys_drains_the_namespace(client, app, plans, trial, log):
    send(app)
    with celery_client(socket_url(client), trial.key("celery:")) as seen:
        ids = send(seen)
    client.acl_setuser("clerk", enabled=True, nopass=True, keys=[f"{trial.namespace}:*"], categories=["+@all"])
    try:
        with Redis(unix_socket_path=client.get_connection_kwargs()["path"], username="clerk", password="x") as clerk:
            drain_all(draining := Draining(clerk, trial.ledger, Options(worker="w", celery_prefix=""), lambda: plans))
            drain_all(draining)
    finally:
        client.acl_deluser("clerk")
    assert [trial.state(one) for one in ids] == ["queued"]
    assert waiting(client) == [1]
    assert len(log.entries) == 1
    for key in ("orders", *client.scan_iter("*kombu*")):
        client.delete(key)


def test_a_store_that_refuses_everything_is_one_that_is_down(client, app, plans, trial, log):
    send(app)
    client.acl_setuser("nobody", enabled=True, nopass=True, keys=[], categories=["+@all"])
    try:
        with (
            Redis(unix_socket_path=client.get_connection_kwargs()["path"], username="nobody", password="x") as nobody,
            pytest.raises(StoreDown),
        ):
            Draining(nobody, trial.ledger, Options(worker="w", celery_prefix=""), lambda: plans).step()
    finally:
        client.acl_deluser("nobody")
    assert log.entries == []
    client.delete("orders")
