"""A ledger on a namespace of its own, with a clock that a test sets: what the tests of the ledger speak."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from redis import Redis

from runtime.invoke.limits.rules import Limits
from runtime.ledger.calls import do
from runtime.ledger.ledger import Keeping, Ledger
from runtime.ledger.records import Accepted, Claimed, Ending, Failure, Held, Submission
from runtime.ledger.views import Page, QueueView, RunView
from tests.ledger.trees import Tree, submission

START = 1_900_000_000.0


@dataclass
class Trial:
    """Every method runs one script. Worker "w" knows the functions "f" and "g" unless `works` says otherwise."""

    client: Redis
    namespace: str
    now: float = START
    keeping: Keeping = field(default_factory=Keeping)
    lease_seconds: float = 10.0
    numbers: Any = field(default_factory=lambda: count(1))
    workers: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Limits | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger(
            self.namespace, lease_seconds=self.lease_seconds, keeping=self.keeping, clock=lambda: self.now
        )

    def key(self, name: str) -> str:
        return f"{self.namespace}:{name}"

    def works(self, worker: str = "w", *functions: str, **on_failure: tuple[str, str]) -> None:
        self.workers[worker] = functions or ("f", "g"), on_failure
        functions, on_failure = self.workers[worker]
        do(self.client, self.ledger.register(worker, dict.fromkeys(functions) | self.limits, on_failure))

    def accept(self, function: str = "f", **fields: Any) -> str:
        """The id of an accepted run."""
        accepted = self.offer(function, **fields)
        assert accepted.verdict == "accepted"
        return accepted.id

    def offer(self, function: str = "f", **fields: Any) -> Accepted:
        fields.setdefault("id", f"r{next(self.numbers):05}")
        return do(self.client, self.ledger.accept([Submission(function=function, **fields)]))[0]

    def accept_many(self, runs: Iterable[Submission]) -> list[Accepted]:
        return do(self.client, self.ledger.accept(runs))

    def start(self, tree: Tree, **fields: Any) -> str:
        """The id of an accepted flow."""
        accepted = self.offer_flow(tree, **fields)
        assert accepted.verdict == "accepted"
        return accepted.id

    def offer_flow(self, tree: Tree, **fields: Any) -> Accepted:
        fields.setdefault("id", f"w{next(self.numbers):05}")
        return do(self.client, self.ledger.accept_flow(submission(tree, **fields)))

    def claim(self, worker: str = "w", *queues: str, slots: int = 1) -> list[Claimed]:
        """As workers do: one that is not registered any more does it again."""
        found = do(self.client, self.ledger.claim(worker, queues or ("default",), slots))
        if found is None:
            functions, on_failure = self.workers[worker]
            self.works(worker, *functions, **on_failure)
            found = do(self.client, self.ledger.claim(worker, queues or ("default",), slots))
        assert found is not None
        return found

    def claim_ids(self, worker: str = "w", *queues: str, slots: int = 100) -> list[str]:
        return [one.id for one in self.claim(worker, *queues, slots=slots)]

    def claim_one(self, worker: str = "w", *queues: str) -> Claimed:
        (one,) = self.claim(worker, *queues)
        return one

    def finish(self, claimed: Claimed, state: Any = "succeeded", **fields: Any) -> bool:
        """Whether it was written."""
        if state in {"failed", "retrying"}:
            fields.setdefault("reason", "error")
            fields.setdefault("failure", Failure(type="ValueError", message="no"))
        if state == "succeeded":
            fields.setdefault("result", b"1")
        ending = Ending(
            id=claimed.id, token=claimed.token, state=state, attempt=claimed.attempt, began=self.now, ended=self.now,
            worker="w", **fields,
        )  # fmt: skip
        return do(self.client, self.ledger.finish([ending]))[0]

    def beat(self, claimed: Claimed, worker: str = "w", progress: bytes = b""):
        return do(self.client, self.ledger.beat(worker, [held(claimed, progress)]))

    def keep_alive(self, worker: str = "w") -> None:
        do(self.client, self.ledger.beat(worker, []))

    def release(self, *claimed: Claimed) -> int:
        return do(self.client, self.ledger.release(map(held, claimed)))

    def disown(self, *claimed: Claimed) -> int:
        """Hand back what the worker does not hold."""
        return do(self.client, self.ledger.disown("w", ["default"], map(held, claimed)))

    def reap(self) -> int:
        """Until nothing is left to be moved."""
        total = 0
        while moved := do(self.client, self.ledger.reap()):
            total += moved
        return total

    def lose(self, claimed: Claimed) -> None:
        """The worker of a run dies: its lease is over."""
        self.now += self.lease_seconds + 0.001
        assert self.reap() >= 1

    def advance(self, seconds: float) -> None:
        """Let time go by, and the reaper look."""
        self.now += seconds
        self.reap()

    def cancel(self, run_id: str) -> str:
        return do(self.client, self.ledger.cancel([run_id]))[0]

    def redrive(self, run_id: str) -> str:
        return do(self.client, self.ledger.redrive([run_id]))[0]

    def purge(self, run_id: str) -> str:
        return do(self.client, self.ledger.purge([run_id]))[0]

    def pause(self, queue: str = "default", *, paused: bool = True) -> bool:
        return do(self.client, self.ledger.pause(queue, paused=paused))

    def show(self, run_id: str) -> RunView:
        view = self.find(run_id)
        assert view is not None, f"no run {run_id}"
        return view

    def find(self, run_id: str) -> RunView | None:
        return do(self.client, self.ledger.show([run_id]))[0]

    def state(self, run_id: str) -> str:
        return self.show(run_id).state

    def page(self, *functions: str, **options: Any) -> Page:
        return do(self.client, self.ledger.runs(functions, **options))

    def list_ids(self, *functions: str, **options: Any) -> list[str]:
        """Ids of all pages."""
        ids, cursor = [], ""
        while True:
            page = self.page(*functions, cursor=cursor, **options)
            ids += [run.id for run in page.runs]
            cursor = page.cursor
            if not cursor:
                return ids

    def queue(self, name: str = "default") -> QueueView:
        return next(view for view in do(self.client, self.ledger.queues()) if view.name == name)


def held(claimed: Claimed, progress: bytes = b"") -> Held:
    return Held(claimed.id, claimed.token, claimed.queue, progress)
