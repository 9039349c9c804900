"""A flow in the hands of its author: submitted, waited for, cancelled, redriven; as the one run that it is."""

import asyncio
import sys
from collections.abc import Callable
from functools import reduce
from random import Random
from types import ModuleType
from typing import Any

import msgspec
import pytest

from runtime import PREVIOUS, QueueFull, Run, RunFailed, SubmitError, chain, chord, group, step, submit, submit_sync
from runtime.base.errors import UnknownRun
from runtime.declare.context import current as current_context
from runtime.declare.loader import load
from runtime.ledger.desk import Desk
from runtime.ledger.flows.steps import Flow
from runtime.ledger.records import Failure
from tests.declare.conftest import _restored_imports  # noqa: F401 - what is loaded here is put back
from tests.desks import context
from tests.ledger.trial import START, Trial
from tests.live_servers import until

SUMS = """
    import msgspec
    from runtime import queue

    class Sum(msgspec.Struct):
        value: float

    @queue("sums")
    async def add(x: float, y: float = 0.0) -> Sum: ...

    @queue("sums")
    def total(numbers: list[Sum]) -> Sum: ...

    @queue("sums")
    def echo(n: int, given=None) -> dict: ...
"""


@pytest.fixture
def sums(desk: Desk, write_project) -> ModuleType:
    registry = load(write_project(**{"functions/sums.py": SUMS}))
    assert registry.failures == ()
    desk.registry = lambda: registry
    return sys.modules["functions.sums"]


@pytest.fixture
def work_off(trial: Trial, sums) -> Callable[..., list[Any]]:
    """Be the worker until nothing is left to do: the arguments of each run, in the order they were run in."""

    def work_off(fails: Callable[[dict[str, Any]], bool] = lambda _: False) -> list[Any]:
        trial.works("w", "sums.add", "sums.total")
        seen = []
        while trial.reap() or (found := trial.claim("w", "sums", "other")):
            for one in found:
                given = msgspec.json.decode(one.payload)
                seen.append(given)
                if fails(given):
                    trial.finish(one, "failed", failure=Failure(type="ValueError", message=f"no {given}"))
                else:
                    numbers = given.get("numbers") or [given.get("x"), given.get("y", 0)]
                    numbers = [n["value"] if isinstance(n, dict) else n for n in numbers]
                    trial.finish(one, result=msgspec.json.encode({"value": sum(numbers)}))
        return seen

    return work_off


async def test_a_flow_is_a_run_with_a_result(sums, trial, work_off):
    adds = [step(sums.add, x=n, y=1) for n in range(3)]
    run = await submit(chord(adds, step(sums.total, numbers=PREVIOUS)))
    assert isinstance(run, Run)
    assert (await run.state(), run.known) == ("running", False)
    waiting = asyncio.create_task(run.result())
    told = f"{trial.namespace}:done:{run.id}"
    await asyncio.to_thread(until, lambda: trial.client.pubsub_channels(told))  # it waits
    seen = work_off()
    assert seen == [
        {"x": 0, "y": 1},
        {"x": 1, "y": 1},
        {"x": 2, "y": 1},
        {"numbers": [{"value": n} for n in (1, 2, 3)]},
    ]
    assert await waiting == sums.Sum(6)
    view = trial.show(run.id)
    assert (view.function, view.queue, view.state, view.trigger) == ("flow:chord", "", "succeeded", "submit")
    assert await run.progress() == {"total": 4, "open": 0, "succeeded": 4, "failed": 0, "cancelled": 0}


async def test_results_have_the_types_of_the_steps(sums, work_off):
    runs = [
        await submit(flow)
        for flow in (
            group(step(sums.add, 1), chain(step(sums.add, 1), step("sums.add", x=2))),
            group(step(sums.add, 3), collect=True),
            group(),
        )
    ]
    work_off()
    assert [await run.result(0) for run in runs] == [
        [sums.Sum(1), sums.Sum(2)],
        [{"state": "succeeded", "result": {"value": 3}}],
        [],
    ]


def some_flow(random: Random, depth: int, fed: bool) -> tuple[Any, Callable[[Any], Any]]:
    """Any flow of steps that echo their arguments, and what it makes of the last result."""
    kind = random.choice(["step", "chain", "group", "chord"]) if depth else "step"
    if kind == "step":
        n, given = random.randrange(1000), {"was": [PREVIOUS]} if fed and random.random() < 0.8 else 7
        return step("sums.echo", n=n, given=given), lambda last: {"n": n, "given": {"was": [last]} if given != 7 else 7}
    if kind == "chain":
        first = some_flow(random, depth - 1, fed)
        rest = [some_flow(random, depth - 1, fed=True) for _ in range(random.randrange(3))]
        return chain(*[part for part, _ in (first, *rest)]), lambda last: reduce(
            lambda x, f: f[1](x), (first, *rest), last
        )
    parts = [some_flow(random, depth - 1, fed) for _ in range(random.randrange(4))]
    if kind == "group":
        return group(*[part for part, _ in parts]), lambda last: [result(last) for _, result in parts]
    body, finish = some_flow(random, depth - 1, fed=True)
    return chord([part for part, _ in parts], body), lambda last: finish([result(last) for _, result in parts])


@pytest.mark.parametrize("seed", range(12))
async def test_any_flow_makes_what_its_steps_make(sums, trial, seed: int):
    flow, expected = some_flow(Random(seed), 4, fed=False)
    run = await submit(flow if isinstance(flow, Flow) else chain(flow))
    trial.works("w", "sums.echo")
    while trial.reap() or (found := trial.claim("w", "sums", slots=3)):
        for one in reversed(found):
            trial.finish(one, result=one.payload)
    assert await run.result(0) == expected(None)


async def test_a_failure_names_the_step(sums, trial, work_off):
    run = await submit(chain(step(sums.add, 1), group(step(sums.add, 2), step(sums.add, 3)), step(sums.add, 4)))
    seen = work_off(lambda given: given["x"] == 2)
    assert {"x": 4} not in seen
    with pytest.raises(
        RunFailed, match=rf"of flow:chain ended with error: StepFailed: .*sums.add.*{run.id}-4"
    ) as caught:
        await run.result()
    assert (caught.value.reason, caught.value.type) == ("error", "StepFailed")
    assert "no {'x': 2}" in caught.value.message
    assert trial.show(f"{run.id}-4").flow == run.id


async def test_a_flow_is_cancelled_and_goes_on_from_where_it_stopped(sums, trial, work_off):
    run = await submit(chain(step(sums.add, 1), step.using(delay="1h")(sums.add, 2), step(sums.add, 3)))
    assert work_off() == [{"x": 1}]
    assert await run.redrive() == "open"
    assert await run.cancel() == "cancelled"
    assert await run.cancel() == "finished"
    with pytest.raises(RunFailed, match="of flow:chain ended with cancelled"):
        await run.result()
    assert await run.redrive() == "queued"
    trial.advance(3600)
    assert work_off() == [{"x": 2}, {"x": 3}]
    assert await run.result(0) == sums.Sum(3)
    assert await run.redrive() == "succeeded"
    with pytest.raises(UnknownRun):
        await Run("nobody").redrive()


def test_the_same_without_a_loop(sums, work_off):
    run = submit_sync(chain(step(sums.add, 1)))
    assert work_off(lambda _: True) == [{"x": 1}]
    assert isinstance(run.result(0, propagate=False), RunFailed)
    assert run.redrive() == "queued"
    work_off()
    assert run.result(0) == sums.Sum(1)


async def test_options_of_a_flow_and_of_its_steps(sums, trial, work_off):
    using = submit.using(id="mine", queue="other", priority=9, max_age="1m", delay="1h")
    run = await using(group(step(sums.add, 1), step.using(priority=1, queue="sums")(sums.add, 2)))
    view = trial.show(run.id)
    assert (run.id, view.state, view.due, view.priority) == ("mine", "scheduled", START + 3600, 9)
    assert (await using(chain(step(sums.add, 5)))).known
    trial.advance(3600)
    trial.reap()
    first, second = (trial.show(f"mine-{n}") for n in (1, 2))
    assert (first.queue, first.priority, second.queue, second.priority) == ("other", 9, "sums", 1)
    assert first.expires == second.expires == START + 3660
    assert len(work_off()) == 2
    deduped = [await submit.using(dedupe="k")(chain(step(sums.add, n))) for n in range(2)]
    assert (deduped[0].known, deduped[1].known, deduped[0].id) == (False, True, deduped[1].id)


async def test_a_flow_that_a_handler_submits_is_its_child(sums, trial, desk):
    parent = await submit(sums.add, 1)
    token = current_context.set(context(parent.id, is_run=True))
    run = await submit(chain(step(sums.add, 1)))
    current_context.reset(token)
    assert trial.show(run.id).parent == parent.id
    assert trial.show(f"{run.id}-1").parent == run.id
    assert (await desk.ask(desk.ledger.children([(parent.id, "0")]))) == [("0", [run.id])]
    assert await parent.cancel(tree=True) == "cancelled"
    assert [trial.state(one) for one in (run.id, f"{run.id}-1")] == ["cancelled", "cancelled"]


async def test_what_cannot_be_is_refused_before_anything_is_accepted(sums, trial, desk):
    good = step(sums.add, 1)
    for submitted, error, says in (
        (lambda: submit(chain(good, step(sums.add))), SubmitError, r"chain\[1\], step\(add\): .*x: required"),
        (lambda: submit(chain(good), x=1), SubmitError, r"submit\(flow\) takes no arguments"),
        (lambda: submit(good), SubmitError, r"step\(add\) alone is no flow: write submit\(function, ...\), or chain"),
        (lambda: submit.many(chain(good), [{}]), SubmitError, "flows are submitted one by one"),
        (lambda: submit(sums.add, x=PREVIOUS), SubmitError, "PREVIOUS is a value only within a flow; write submit"),
        (lambda: submit(sums.add, x=good), SubmitError, r"step\(add\) runs only within a flow; write submit"),
        (lambda: submit(sums.add, x=[chain(good)]), SubmitError, "<chain of 1> runs only within a flow"),
    ):
        with pytest.raises(error, match=says):
            await submitted()
    desk.max_length = 3
    with pytest.raises(QueueFull, match='"other, sums" has no room for 5 steps of a flow: it may have 3'):
        await submit(group(*[good] * 4, step.using(queue="other")(sums.add, 1)))
    assert trial.list_ids() == []


async def test_a_result_may_be_too_long_for_the_next_step(sums, desk, trial, work_off):
    desk.payload_max = 60
    run = await submit(chord([step(sums.add, n) for n in range(9)], step(sums.total, PREVIOUS)))
    assert len(work_off()) == 9
    failed = await run.result(0, propagate=False)
    assert isinstance(failed, RunFailed)
    assert (failed.reason, failed.type) == ("bad arguments", "StepFailed")
