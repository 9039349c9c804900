"""Flows of any shape and a simple model of them, driven side by side by hypothesis: after each step both say the same.

Once with scripts that do little at a time, so that most of it is left to the reaper.
"""

import json
from collections.abc import Callable
from functools import cache
from hashlib import sha1
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from runtime.ledger import calls
from runtime.ledger.calls import Script
from runtime.ledger.ledger import Ledger
from runtime.ledger.records import Claimed, Ending, Failure
from tests.ledger.flow_model import FlowModel
from tests.ledger.sides import Sides
from tests.ledger.trees import Tree, chain, group, step, submission

numbers = count(1)
picks = st.integers(0, 1000)
seeds = st.integers(0, 10**6)
BAD = ["failed", "failed", "cancelled", "retrying"]
endings = st.lists(st.tuples(picks, st.sampled_from([*BAD, *["succeeded"] * 6])), min_size=1, max_size=12)
LEAVES = [step("f", '{"p": "none"}'), step("f", '{"p": ', "}"), step("f", '{"p": ', "}", queue="other")]


def grow(random: Random, depth: int) -> Tree:
    """A tree of any shape."""
    if depth == 0 or random.random() < 0.3:
        return random.choice(LEAVES)
    if random.random() < 0.5:
        return chain(*[grow(random, depth - 1) for _ in range(random.randint(1, 3))])
    return group(*[grow(random, depth - 1) for _ in range(random.randint(0, 3))], collect=random.random() < 0.6)


def flow_of(seed: int) -> Tree:
    random = Random(seed)
    tree = grow(random, random.randint(2, 4))
    return chain(tree) if tree.kind == "step" else tree


flows = seeds.map(flow_of)


@cache
def timid(script: Script) -> Script:
    """The same, but it does two steps at a time, and looks at three nodes."""
    text = script.text.replace("MOST_STEPS = 100", "MOST_STEPS = 2").replace("MOST_NODES = 2000", "MOST_NODES = 3")
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


class FlowSides(Sides):
    as_it_runs: ClassVar[Callable[[Script], Script]]

    @initialize(trees=st.lists(flows, min_size=2, max_size=4))
    def begin(self, trees: list[Tree]) -> None:
        self.namespace, self.now = f"m{next(numbers)}", 1_900_000_000.0
        self.ledger = Ledger(self.namespace, clock=lambda: self.now)
        self.flows: dict[str, FlowModel] = {}
        self.claimed: list[Claimed] = []
        self.do(self.ledger.register("w", {"f": None}, {}))
        for tree in trees:
            self.start(tree)

    def do(self, call: Any) -> Any:
        return calls.do(self.client, msgspec.structs.replace(call, script=type(self).as_it_runs(call.script)))

    def settle(self) -> None:
        while self.do(self.ledger.reap()):
            pass

    @rule(tree=flows)
    def start(self, tree):
        flow = submission(tree, id=f"w{next(numbers)}")
        if len(self.flows) < 4:
            assert self.do(self.ledger.accept_flow(flow)).verdict == "accepted"
            self.flows[flow.id] = model = FlowModel(flow.id, flow.nodes)
            model.walk()
        self.settle()

    def at(self, run_id: str) -> tuple[FlowModel, int]:
        flow, _, n = run_id.rpartition("-")
        return self.flows[flow], int(n)

    @rule(slots=st.sampled_from([1, 2, 100]))
    def claim(self, slots):
        """The order is that of the queues, which their own model tells; here, who may be claimed."""
        found = self.do(self.ledger.claim("w", ["default", "other"], slots))
        if found is None:
            self.do(self.ledger.register("w", {"f": None}, {}))
            found = self.do(self.ledger.claim("w", ["default", "other"], slots))
        queued = sum(step.state == "queued" for flow in self.flows.values() for step in flow.steps.values())
        assert len(found) == min(slots, queued)
        for one in found:
            flow, n = self.at(one.id)
            assert flow.steps[n].state == "queued"
            assert (json.loads(one.payload)["p"], one.failures) == (flow.steps[n].payload, flow.steps[n].failures)
            flow.steps[n].state = "running"
        self.claimed += found
        self.settle()

    @rule(ends=endings)
    def finish(self, ends):
        """In one call: what ends first may stop the others, or not, since they have ended, too."""
        told = [self.end_one(pick, state) for pick, state in ends[: len(self.claimed)]]
        assert self.do(self.ledger.finish(told)) == [True] * len(told)
        for flow in self.flows.values():
            flow.follow()
        self.settle()

    def end_one(self, pick: int, state: Any) -> Ending:
        one = self.claimed.pop(pick % len(self.claimed))
        flow, n = self.at(one.id)
        step, bad = flow.steps[n], state in {"failed", "retrying"}
        if step.cancelling:
            flow.end(n, "cancelled", "cancelled")
        elif state == "retrying":
            step.state, step.failures = "queued", step.failures + 1
        else:
            flow.end(n, state, "error" if bad else state, [n, pick])
        return Ending(
            id=one.id,
            token=one.token,
            state=state,
            reason="error" if bad else None,
            failure=Failure(type="E", message="no") if bad else None,
            result=json.dumps([n, pick]).encode() if state == "succeeded" else b"",
        )

    @rule(seed=seeds)
    def live(self, seed):
        """What mostly happens, for a while."""
        random = Random(seed)
        good = random.choice([6, 20])
        for _ in range(random.randint(1, 12)):
            self.claim(random.choice([1, 2, 100]))
            while self.claimed and random.random() < 0.8:
                states = random.choices(BAD + ["succeeded"] * good, k=random.choice([1, 1, 2, 5]))
                self.finish([(random.randint(0, 100), state) for state in states])
            for at, flow in enumerate(self.flows.values()):
                if flow.state in {"failed", "cancelled"} and random.random() < 0.4:
                    self.act(at, "redrive", step=False)
            self.both_know_the_same()

    @rule(pick=picks)
    def die(self, pick):
        """All leases are lost, once; some steps run again, and what was to be cancelled is."""
        self.now += 11
        self.settle()
        for one in self.claimed:
            flow, n = self.at(one.id)
            if flow.steps[n].cancelling:
                flow.end(n, "cancelled", "cancelled")
                flow.follow()
            else:
                flow.steps[n].state = "queued"
        self.claimed = []

    @rule(pick=picks, what=st.sampled_from(["cancel", "redrive", "redrive"]), step=st.booleans())
    def act(self, pick, what, step):
        flow = list(self.flows.values())[pick % len(self.flows)]
        if step and flow.steps:
            self.act_on_step(flow, sorted(flow.steps)[pick % len(flow.steps)], what)
        else:
            told, expected = self.do(getattr(self.ledger, what)([flow.id]))[0], getattr(flow, what)()
            assert told == expected or (told, expected) == ("cancelling", "cancelled")  # in small bites
        self.settle()

    def act_on_step(self, flow: FlowModel, n: int, what: str) -> None:
        told = self.do(getattr(self.ledger, what)([f"{flow.id}-{n}"]))
        if what == "cancel":
            assert told == [flow.cancel_step(n)]
            flow.follow()
        elif flow.steps[n].state == "succeeded":
            assert told == ["succeeded"]
        elif flow.steps[n].is_open:
            assert told == ["open"]
        else:
            assert told == [flow.redrive()]

    @rule(pick=picks)
    def purge(self, pick):
        flow = list(self.flows.values())[pick % len(self.flows)]
        if flow.state == "running" or len(self.flows) == 1:
            return
        assert self.do(self.ledger.purge([flow.id])) == ["purged"]
        self.do(self.ledger.purge([f"{flow.id}-{n}" for n in flow.steps]))
        del self.flows[flow.id]

    # --- what always holds ---

    @invariant()
    def both_know_the_same(self):
        for flow in self.flows.values():
            view = self.do(self.ledger.show([flow.id]))[0]
            assert (view.state, view.redriven) == (flow.state, flow.redriven)
            assert msgspec.structs.astuple(view.steps) == flow.counts()
            if view.state == "succeeded":
                assert json.loads(bytes(view.result)) == flow.values[0]
            steps = sorted(flow.steps)
            views = self.do(self.ledger.show([f"{flow.id}-{n}" for n in steps]))
            found = {
                n: (view.state.replace("retrying", "queued"), view.cancelling)
                for n, view in zip(steps, views, strict=True)
            }
            assert found == {n: (step.state, step.cancelling) for n, step in flow.steps.items()}


def drive(valkey: Path, as_it_runs: Callable[[Script], Script], **options: Any) -> None:
    FlowSides.as_it_runs = staticmethod(as_it_runs)
    FlowSides.drive(valkey, **options)


@pytest.mark.timeout(600)  # hypothesis needs a while to make a failure short
@pytest.mark.parametrize("as_it_runs", [lambda script: script, timid], ids=["as it is", "in small bites"])
def test_flows_do_what_the_model_does(valkey: Path, as_it_runs: Callable[[Script], Script]):
    drive(valkey, as_it_runs, max_examples=60, stateful_step_count=20)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("as_it_runs", [lambda script: script, timid], ids=["as it is", "in small bites"])
def test_flows_do_what_the_model_does_for_a_long_time(valkey: Path, as_it_runs: Callable[[Script], Script]):
    drive(valkey, as_it_runs, max_examples=1000, stateful_step_count=50)
