"""What flows should do, told differently: after each end the tree is walked from the top, and says what may begin.

Driven side by side with the ledger by test_flow_model. Knows nothing of keys, scripts, rounds or counters.
"""

from dataclasses import dataclass, field
from typing import Any

from runtime.ledger.flows.nodes import Node

OPEN, PENDING = "open", object()


@dataclass
class Step:
    """A step that has begun. state: of its run. cancelling: it runs, and is to end."""

    state: str = "queued"
    cancelling: bool = False
    failures: int = 0
    payload: Any = None

    @property
    def is_open(self) -> bool:
        return self.state in {"queued", "running", "retrying"}


@dataclass
class FlowModel:
    """values: of nodes that have succeeded. stopped: nodes that have not, and what is told of that.

    is_ending: ends are told one after the other; nothing begins before all of a call are.
    """

    id: str
    nodes: tuple[Node, ...]
    steps: dict[int, Step] = field(default_factory=dict)
    values: dict[int, Any] = field(default_factory=dict)
    stopped: dict[int, dict[str, Any]] = field(default_factory=dict)
    redriven: int = 0
    ended: list[tuple[int, str, Any]] = field(default_factory=list)
    is_ending: bool = False

    # --- the tree ---

    def parts(self, n: int) -> range:
        return range(self.nodes[n].first, self.nodes[n].first + self.nodes[n].count)

    def above(self, n: int) -> list[int]:
        """The nodes that a node is part of, nearest first."""
        found = []
        while (n := self.nodes[n].parent) >= 0:
            found.append(n)
        return found

    def is_stopped(self, n: int) -> bool:
        return any(one in self.stopped for one in [n, *self.above(n)])

    def walk(self, n: int = 0, previous: Any = None) -> Any:
        """Begin what may begin. The node's value, or PENDING."""
        node = self.nodes[n]
        if n in self.values:
            return self.values[n]
        if n in self.stopped or (self.is_ending and not node.count):
            return PENDING
        if node.kind == "step":
            step = self.steps.get(n)
            if step is None or not (step.is_open or step.state == "succeeded"):
                kept = step.payload if step is not None else previous if len(node.pieces) > 1 else "none"
                self.steps[n] = Step(payload=kept)
            return PENDING
        value = self.walk_chain(n, previous) if node.kind == "chain" else self.walk_group(n, previous)
        if value is not PENDING:
            self.values[n] = value
        return value

    def walk_chain(self, n: int, previous: Any) -> Any:
        for part in self.parts(n):
            previous = self.walk(part, previous)
            if previous is PENDING:
                break
        return previous

    def walk_group(self, n: int, previous: Any) -> Any:
        values = [self.walk(part, previous) for part in self.parts(n)]
        if not self.nodes[n].collect:
            return PENDING if PENDING in values else values
        told = [
            self.stopped.get(part) or (PENDING if value is PENDING else {"state": "succeeded", "result": value})
            for part, value in zip(self.parts(n), values, strict=True)
        ]
        return PENDING if PENDING in told else told

    # --- ends ---

    def end(self, n: int, state: str, reason: str = "", value: Any = None) -> None:
        """A step's run is over. `follow` does what follows, when all that ended in the same call is told."""
        step = self.steps[n]
        step.state, step.cancelling = state, False
        self.ended.append((n, reason, value))

    def follow(self) -> None:
        self.is_ending = True
        while self.ended:
            if 0 not in self.stopped:
                self.walk()  # what an end completes stands, though the next one stops the flow
            n, reason, value = self.ended.pop(0)
            state = self.steps[n].state
            if state == "succeeded":
                self.values[n] = value
            elif not self.is_stopped(n):
                child = n
                for one in self.above(n):
                    if self.nodes[one].collect:
                        break
                    child = one
                error = "no" if state == "failed" else state
                self.stop(child, {"state": state, "reason": reason, "error": error, "run_id": f"{self.id}-{n}"})
        self.is_ending = False
        if 0 not in self.stopped:
            self.walk()

    def stop(self, node: int, outcome: dict[str, Any]) -> None:
        """Nothing begins below a node any more, and what is open ends."""
        self.stopped[node] = outcome
        for n, step in list(self.steps.items()):
            if step.is_open and node in self.above(n):
                self.cancel_step(n)

    def cancel_step(self, n: int) -> str:
        step = self.steps.get(n)
        if step is None:
            return "unknown"
        if not step.is_open:
            return "finished"
        if step.state == "running":
            step.cancelling = True
            return "cancelling"
        self.end(n, "cancelled", "cancelled")
        return "cancelled"

    # --- the flow as a run ---

    @property
    def state(self) -> str:
        if any(step.is_open for step in self.steps.values()) or not (0 in self.values or 0 in self.stopped):
            return "running"
        return "succeeded" if 0 in self.values else self.stopped[0]["state"]

    def counts(self) -> tuple[int, ...]:
        states = ["open" if step.is_open else step.state for step in self.steps.values()]
        total = sum(node.kind == "step" for node in self.nodes)
        return total, *(states.count(state) for state in ("open", "succeeded", "failed", "cancelled"))

    def cancel(self) -> str:
        if self.state != "running":
            return "finished"
        if 0 not in self.stopped and 0 not in self.values:
            self.stop(0, {"state": "cancelled", "reason": "cancelled"})
            self.follow()
        return "cancelling" if self.state == "running" else "cancelled"

    def redrive(self) -> str:
        state = self.state
        if state in {"running", "succeeded"}:
            return {"running": "open"}.get(state, state)
        self.stopped = {n: told for n, told in self.stopped.items() if any(one in self.values for one in self.above(n))}
        self.redriven += 1
        self.walk()
        return "queued"
