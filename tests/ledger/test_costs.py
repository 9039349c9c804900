"""What a script costs does not depend on how many runs wait: each is asked of a queue with 100 and with 100,000."""

import statistics
import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from runtime.ledger.calls import do
from runtime.ledger.records import Adoption, Submission
from tests.ledger.trial import START, Trial

FEW, MANY = 100, 100_000


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
    """Median seconds."""
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
    return statistics.median(times)


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
    assert costs(name) < 4
