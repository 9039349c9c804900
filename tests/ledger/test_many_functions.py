"""What scripts do with more functions than one command of theirs takes, and lists of which many have a run."""

import random

from runtime.invoke.limits.rules import Limits
from runtime.ledger.calls import do
from runtime.ledger.records import Ending
from tests.ledger.trial import Trial


def test_a_worker_registers_all_it_knows(trial: Trial):
    limits = {f"f{one}": Limits(concurrency=1 + one) if one % 400 == 0 else None for one in range(1201)}
    for _ in range(2):
        do(trial.client, trial.ledger.register("w", limits, {"f7": ("f8", "default")}))
    assert trial.client.scard(trial.key("worker:w")) == 1201
    knows = {name.decode(): said for name, said in trial.client.hgetall(trial.key("knows:w")).items()}
    assert knows.keys() == {"", *limits}
    assert {name for name, said in knows.items() if said} == {"f0", "f400", "f800", "f1200"}
    assert trial.client.hkeys(trial.key("on_failure")) == [b"f7"]


def test_pages_of_many_functions_have_every_run_once_and_newest_first(trial: Trial):
    chance = random.Random(9)
    names = [f"f{one}" for one in range(40)]
    do(trial.client, trial.ledger.register("w", dict.fromkeys(names), {}))
    for number in range(200):
        trial.now += chance.choice((0.0, 0.001, 0.5))
        trial.accept(chance.choice(names[: 1 + number % 40]), id=f"{number:04}")
    for run in do(trial.client, trial.ledger.claim("w", ["default"], 120)) or []:
        trial.now += chance.choice((0.0, 0.001))
        do(
            trial.client,
            trial.ledger.finish([Ending(id=run.id, token=run.token, state=chance.choice(("succeeded", "failed")))]),
        )
    found, cursor, limit = [], "", 7
    while True:
        page = do(trial.client, trial.ledger.runs(cursor=cursor, limit=limit))
        found += page.runs
        if not (cursor := page.cursor):
            break
    assert sorted(run.id for run in found) == [f"{number:04}" for number in range(200)]
    times = [run.finished or run.accepted for run in found]
    assert times == sorted(times, reverse=True)
    assert [run.id for run in do(trial.client, trial.ledger.runs(limit=1000)).runs] == [run.id for run in found]
