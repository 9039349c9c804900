"""What a script costs does not depend on how many runs wait, nor on how many steps a flow has; and how many commands.

Each is asked of a queue with 100 and with 100,000 runs, and of flows with 100 and with 10,000 steps.
"""

import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from runtime.invoke.limits.rules import Limits
from runtime.ledger.calls import do
from runtime.ledger.records import Adoption, Claimed, Submission
from tests.ledger.trees import chain, group, step
from tests.ledger.trial import START, Trial
from tests.live_servers import until

FEW, MANY = 100, 100_000
_SECONDS = 30.0
"""What else runs on the machine may come between for so long; what costs more each time does so for ever."""


def fill(trial: Trial, count: int) -> None:
    """Ready runs of a known and an unknown function, delayed ones, a few finished ones; messages of a client."""
    for at in range(0, count, 1000):
        trial.accept_many(
            Submission(id=f"{n:06}", function="f", due=START + 9e6 if n % 10 == 9 else None, priority=n % 10)
            for n in range(at, min(at + 1000, count))
        )
        trial.client.lpush(trial.key("celery:orders"), *range(at, at + 1000))


@pytest.fixture(scope="module")
def costs(valkey) -> Iterator[Callable[[str], float]]:
    """How many times as long a script takes with many runs."""
    with Redis(unix_socket_path=str(valkey)) as client:
        trials = [Trial(client, name) for name in ("few", "many")]
        for trial, count in zip(trials, (FEW, MANY), strict=True):
            trial.works()
            fill(trial, count)
        yield lambda name: measure(name, trials[1]) / measure(name, trials[0])
        client.flushdb()


def adopt(trial: Trial) -> None:
    """Take the oldest message of a client of Celery's own."""
    (message, *_) = do(trial.client, trial.ledger.peek([trial.key("celery:orders")], 1000))
    run = Submission(id=f"m{next(trial.numbers)}", function="f", queue="orders")
    words = do(trial.client, trial.ledger.adopt([Adoption(key=message.key, digest=message.digest, run=run)]))
    assert words == ["accepted"]


def measure(name: str, trial: Trial) -> float:
    """The least seconds: what else runs on the machine only adds to them."""
    ledger, client = trial.ledger, trial.client
    run = {
        "accept": trial.accept,
        "accept full": lambda: trial.offer(max_length=1),
        "claim and finish": lambda: trial.finish(trial.claim_one()),
        "claim and release": lambda: trial.release(*trial.claim(slots=10)),
        "beat": lambda: trial.beat(held),
        "reap": lambda: do(client, ledger.reap()),
        "cancel": lambda: trial.cancel(trial.accept()),
        "list": lambda: trial.page(limit=50),
        "queues": lambda: do(client, ledger.queues()),
        "show": lambda: trial.show(held.id),
        "peek and adopt": lambda: adopt(trial),
    }[name]
    held = trial.claim_one()
    times = []
    for _ in range(60):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    trial.release(held)
    return min(times)


NAMES = [
    "accept",
    "accept full",
    "claim and finish",
    "claim and release",
    "beat",
    "reap",
    "cancel",
    "list",
    "queues",
    "show",
    "peek and adopt",
]


@pytest.mark.parametrize("name", NAMES)
def test_it_costs_the_same_with_a_thousand_times_as_many_runs(costs, name: str):
    until(lambda: costs(name) < 4, _SECONDS)


FLOWS = {"group": lambda count: group(*[step()] * count), "chain": lambda count: chain(*[step()] * count)}


@pytest.mark.parametrize("shape", FLOWS)
def test_a_step_costs_the_same_in_a_flow_of_a_hundred_times_as_many(client: Redis, shape: str):
    trials = [Trial(client, f"{shape}{count}") for count in (100, 10_000)]
    for trial, count in zip(trials, (100, 10_000), strict=True):
        trial.works()
        trial.start(FLOWS[shape](count))
        trial.reap()

    def least(trial: Trial) -> float:
        times = []
        for _ in range(10):
            began = time.perf_counter()
            trial.finish(trial.claim_one())
            times.append(time.perf_counter() - began)
        return min(times)

    until(lambda: least(trials[1]) / least(trials[0]) < 4, _SECONDS)


def commands_of(client: Redis, act: Callable[[], object]) -> int:
    """How many commands of the store a call takes, those of its script."""
    client.config_resetstat()
    act()
    found = client.info("commandstats")
    return sum(
        found[name]["calls"] for name in found if name.split("_")[1] not in {"evalsha", "eval", "config|resetstat"}
    )


def test_a_run_takes_so_many_commands_and_a_step_a_few_more(client: Redis):
    trial = Trial(client, "count")
    trial.works()
    trial.start(chain(step(), step(), step()))
    for _ in range(3):  # the scripts are there, and so are the names of functions and queues
        trial.finish(trial.claim_one())
    held = []
    run = [
        commands_of(client, trial.accept),
        commands_of(client, lambda: held.append(trial.claim_one())),
        commands_of(client, lambda: trial.finish(held.pop())),
    ]
    trial.start(group(*[step()] * 9))
    part = [
        commands_of(client, lambda: held.append(trial.claim_one())),
        commands_of(client, lambda: trial.finish(held.pop())),
    ]
    assert run == [9, 11, 11]
    assert part == [14, 15]  # to claim it rings for those that are left


def test_a_limited_run_costs_the_same_however_many_keys_and_runs_wait(client: Redis):
    found = []
    for name, keys in (("few", 10), ("many", 10_000)):
        trial = Trial(
            client, f"limited{name}", limits={"f": Limits(concurrency=1, every_ms=0.001, keyed=True, failures=9)}
        )
        trial.works()
        for at in range(0, keys, 1000):
            trial.accept_many(
                Submission(id=f"{n:06}", function="f", key=f"k{n // 2}") for n in range(at, min(at + 1000, keys))
            )
        held: list[Claimed] = []
        trial.finish(trial.claim_one(), verdict="good")
        found.append(
            [
                commands_of(client, lambda: trial.accept(key="k1")),  # noqa: B023 - called at once
                commands_of(client, lambda: held.append(trial.claim_one())),  # noqa: B023
                commands_of(client, lambda: trial.finish(held.pop(), verdict="good")),  # noqa: B023
            ]
        )
        assert client.flushdb()
    assert found[0] == found[1]
    assert max(found[0]) < 40
