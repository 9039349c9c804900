"""What the ledger should do, in dicts and lists and with plain loops: one run, one record.

Driven side by side with the real one by test_model. Times are ms. Knows nothing of keys and scripts.
"""

from dataclasses import dataclass, field

from runtime.ledger.records import FINISHED

PATIENCE = 600_000
LINKS = 10
TRIM = 20
NOBODYS = -1
WINDOW = 86_400_000


@dataclass
class Run:
    id: str
    function: str
    queue: str
    priority: int
    state: str
    due: int
    stamp: int
    expires: int | None = None
    accepted: int = 0
    place: int = 0
    worker: str = ""
    parked_until: int | None = None
    lease_until: int = 0
    token: int = 0
    failures: int = 0
    crashes: int = 0
    shared: bool = False
    losses: int = 0
    redriven: int = 0
    links: int = 0
    reason: str = ""
    cancelling: bool = False
    finished: int = 0
    listed_at: int = 0
    key: str = ""

    @property
    def urgency(self) -> tuple[int, int, bytes]:
        return (9 - self.priority, self.place, self.id.encode())

    @property
    def is_open(self) -> bool:
        return self.state not in FINISHED


@dataclass
class Model:
    lease: int
    stays: int
    keep_good: int
    keep_bad: int
    keep_count: int
    now: int
    runs: dict[str, Run] = field(default_factory=dict)
    queues: dict[str, None] = field(default_factory=dict)
    """In the order they were first met in, as the store has them."""
    paused: set[str] = field(default_factory=set)
    workers: dict[str, tuple[int, frozenset[str]]] = field(default_factory=dict)
    on_failure: dict[str, tuple[str, str]] = field(default_factory=dict)
    dedupe: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    keys: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    """Of calls, each "call" or "run" with the id of who holds it, or "kept"; and until when, but for a run."""
    number: int = 0

    def next(self) -> int:
        self.number += 1
        return self.number

    # --- accepting ---

    def accept(self, new: Run, dedupe: str, window: int, most: int) -> tuple[str, str]:
        if new.id in self.runs:
            return "known", new.id
        until, first = self.dedupe.get((new.function, dedupe), (0, ""))
        if dedupe and until > self.now:
            return "known", first
        if most and len(self.open_in(new.queue)) >= most:
            return "full", new.id
        if dedupe:
            self.dedupe[new.function, dedupe] = (self.now + window, new.id)
        self.runs[new.id] = new
        new.accepted = self.now
        new.listed_at = self.now
        self.queues[new.queue] = None
        if new.due > self.now:
            new.state = "scheduled"
        else:
            self.make_ready(new)
        return "accepted", new.id

    def make_ready(self, run: Run, *, first: bool = False) -> None:
        run.state = "queued"
        run.parked_until = None
        run.place = 0 if first else self.next()

    def open_in(self, queue: str) -> list[Run]:
        return [run for run in self.runs.values() if run.queue == queue and run.is_open]

    # --- workers ---

    def register(self, worker: str, functions: list[str], on_failure: dict[str, tuple[str, str]]) -> None:
        self.workers[worker] = (self.now + self.stays, frozenset(functions))
        for function in functions:
            self.on_failure.pop(function, None)
        self.on_failure |= on_failure

    def living(self, worker: str) -> bool:
        return self.workers.get(worker, (0, frozenset()))[0] > self.now

    def candidates(self, worker: str, queue: str) -> list[Run]:
        """What a worker looks at, the most urgent first."""
        known = self.workers[worker][1]
        found = [
            run
            for run in self.open_in(queue)
            if run.state == "queued" and (run.parked_until is None or run.function in known)
        ]
        return sorted(found, key=lambda run: run.urgency)

    def claim(self, worker: str, queues: list[str], slots: int) -> list[str] | None:
        if not self.living(worker):
            return None
        claimed: list[str] = []
        for queue in queues:
            if queue in self.paused:
                continue
            for run in self.candidates(worker, queue):
                if len(claimed) == slots:
                    break
                if self.take(run, worker):
                    claimed.append(run.id)
        return claimed

    def take(self, run: Run, worker: str) -> bool:
        if run.function not in self.workers[worker][1]:
            run.parked_until = self.now + PATIENCE
            return False
        run.parked_until = None
        if run.expires is not None and run.token == 0 and self.now > run.expires:
            self.close(run, "failed", "expired")
            return False
        run.state, run.token, run.lease_until, run.worker = "running", NOBODYS, self.now + self.lease, worker
        return True

    # --- held runs ---

    def holds(self, run_id: str, token: int) -> bool:
        run = self.runs.get(run_id)
        return run is not None and run.state == "running" and run.token == token

    def beat(self, worker: str, held: list[tuple[str, int]]) -> tuple[list[str], list[str]]:
        if self.living(worker):
            self.workers[worker] = (self.now + self.stays, self.workers[worker][1])
        kept = [run_id for run_id, token in held if self.holds(run_id, token)]
        for run_id in kept:
            self.runs[run_id].lease_until = self.now + self.lease
        lost = [run_id for run_id, token in held if not self.holds(run_id, token)]
        return lost, [run_id for run_id in kept if self.runs[run_id].cancelling]

    def finish(self, run_id: str, token: int, state: str, pause: int) -> bool:
        if not self.holds(run_id, token):
            return False
        run = self.runs[run_id]
        if run.cancelling:
            self.close(run, "cancelled", "cancelled")
        elif state in {"crashed", "lost"}:
            if not self.note_crash(run, lost=state == "lost"):
                run.state, run.due = "retrying", self.now + pause
        elif state == "waiting":
            run.state, run.due = "scheduled", self.now + pause
        elif state == "retrying":
            run.failures += 1
            run.state, run.due = "retrying", self.now + pause
        else:
            run.failures += state == "failed"
            self.close(run, state, "error" if state == "failed" else "")
            if state == "succeeded" and self.keys.get(run.key, ())[:2] == ("run", run_id):
                self.keys[run.key] = ("kept", run_id, self.now + WINDOW)
        return True

    def release(self, run_id: str, token: int) -> int:
        if not self.holds(run_id, token):
            return 0
        run = self.runs[run_id]
        if run.cancelling:
            self.close(run, "cancelled", "cancelled")
            return 0
        run.token = NOBODYS
        self.make_ready(run, first=True)
        return 1

    def disown(self, worker: str, queue: str, held: set[tuple[str, int]]) -> int:
        mine = [run for run in self.runs.values() if (run.worker, run.queue, run.state) == (worker, queue, "running")]
        mine.sort(key=lambda run: (run.lease_until, run.id.encode()))
        return sum(self.release(run.id, run.token) for run in mine if (run.id, run.token) not in held)

    # --- keys of calls ---

    def look_at_key(self, key: str) -> tuple[str, str]:
        """What it stands for, and who holds it."""
        kind, holder, until = self.keys.get(key, ("", "", 0))
        is_open = holder in self.runs and self.runs[holder].is_open
        is_held = is_open if kind == "run" else until > self.now
        return ("kept" if kind == "kept" else "held") if is_held else "free", holder

    def take_key_by_run(self, key: str, run_id: str, token: int) -> str:
        if not self.holds(run_id, token):
            return "lost"
        verdict, holder = self.look_at_key(key)
        if verdict == "free" or (verdict == "held" and holder == run_id):
            self.keys[key], self.runs[run_id].key = ("run", run_id, 0), key
            return "mine"
        return verdict

    def take_key(self, key: str, call_id: str, lease: int) -> str:
        verdict, holder = self.look_at_key(key)
        if verdict == "free" or (verdict == "held" and holder == call_id):
            self.keys[key] = ("call", call_id, self.now + lease)
            return "mine"
        return verdict

    def end_key(self, key: str, call_id: str, *, keep: bool) -> bool:
        kind, holder, _ = self.keys.get(key, ("", "", 0))
        if kind == "call" and holder == call_id:
            if keep:
                self.keys[key] = ("kept", call_id, self.now + WINDOW)
            else:
                del self.keys[key]
            return True
        return kind == "kept" and holder == call_id

    # --- the end, and after ---

    def close(self, run: Run, state: str, reason: str) -> None:
        run.state, run.reason, run.finished, run.cancelling, run.parked_until = state, reason, self.now, False, None
        run.stamp, run.listed_at = self.next(), self.now
        self.trim(run)
        if state == "failed" and run.function in self.on_failure and run.links < LINKS:
            function, queue = self.on_failure[run.function]
            another = f"{run.id}-failed{run.redriven or ''}"
            if another in self.runs:
                another += f"-{run.accepted}"
            if another not in self.runs:
                new = Run(
                    another,
                    function,
                    queue,
                    5,
                    "queued",
                    self.now,
                    self.next(),
                    accepted=self.now,
                    links=run.links + 1,
                    listed_at=self.now,
                )
                self.runs[another] = new
                self.queues[queue] = None
                self.make_ready(new)

    def trim(self, closed: Run) -> None:
        bad = closed.state == "failed"
        same = [
            run
            for run in self.runs.values()
            if run.function == closed.function and not run.is_open and (run.state == "failed") == bad
        ]
        same.sort(key=lambda run: run.stamp)
        more = sum(run.finished <= self.now - (self.keep_bad if bad else self.keep_good) for run in same)
        if not bad:
            more = max(more, len(same) - self.keep_count)
        for run in same[: max(0, min(more, TRIM))]:
            del self.runs[run.id]

    def cancel(self, run_id: str) -> str:
        run = self.runs.get(run_id)
        if run is None:
            return "unknown"
        if not run.is_open:
            return "finished"
        if run.state == "running":
            run.cancelling = True
            return "cancelling"
        self.close(run, "cancelled", "cancelled")
        return "cancelled"

    def redrive(self, run_id: str) -> str:
        run = self.runs.get(run_id)
        if run is None:
            return "unknown"
        if run.state == "succeeded":
            return "succeeded"
        if run.is_open:
            return "open"
        run.reason, run.failures, run.crashes, run.losses, run.expires = "", 0, 0, 0, None
        run.shared = False
        run.due, run.redriven, run.stamp, run.listed_at = self.now, run.redriven + 1, self.next(), self.now
        self.make_ready(run)
        return "queued"

    def purge(self, run_id: str) -> str:
        run = self.runs.get(run_id)
        if run is None:
            return "unknown"
        if run.is_open:
            return "open"
        del self.runs[run_id]
        return "purged"

    # --- time ---

    def reap(self) -> int:
        self.workers = {name: (until, known) for name, (until, known) in self.workers.items() if until > self.now}
        return sum(self.reap_queue(queue) for queue in list(self.queues))

    def reap_queue(self, queue: str) -> int:
        runs = [run for run in self.runs.values() if run.queue == queue]
        due = [run for run in runs if run.state in {"scheduled", "retrying"} and run.due <= self.now]
        lost = [run for run in runs if run.state == "running" and run.lease_until <= self.now]
        unknown = [run for run in runs if run.parked_until is not None and run.parked_until <= self.now]
        for run in sorted(due, key=lambda run: (run.due, run.id.encode())):
            self.make_ready(run)
        for run in sorted(lost, key=lambda run: (run.lease_until, run.id.encode())):
            self.take_back(run)
        for run in sorted(unknown, key=lambda run: (run.parked_until, run.id.encode())):
            self.judge(run)
        return len(due) + len(lost) + len(unknown)

    def take_back(self, run: Run) -> None:
        if run.cancelling:
            self.close(run, "cancelled", "cancelled")
        elif not self.note_crash(run, lost=True):
            self.make_ready(run, first=True)

    def note_crash(self, run: Run, *, lost: bool) -> bool:
        """With its worker, it is told against a run once. Whether it is given up."""
        if lost and run.crashes:
            run.losses += 1
        else:
            run.shared = run.shared or lost
            run.crashes += 1
        over = run.crashes - run.shared >= 3 or run.losses > 20
        if over:
            self.close(run, "failed", "crashed")
        return over

    def judge(self, run: Run) -> None:
        if not self.workers or any(run.function in known for _, known in self.workers.values()):
            run.parked_until = self.now + PATIENCE
        else:
            self.close(run, "failed", "unknown function")
