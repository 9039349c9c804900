"""What limits should do, with plain loops: who holds places, when the next may begin, which keys have waited longest.

Driven side by side with the real ones by test_limits_model. Times are ms. Knows nothing of keys and scripts.
"""

import math
from dataclasses import dataclass, field

from runtime.invoke.limits.rules import Limits

WAIT = 1000
LATE = 250


@dataclass
class Waiting:
    """A run that could begin. due: since when. fresh: it may still expire."""

    id: str
    function: str
    queue: str
    priority: int
    key: str | None
    place: tuple[int, int]
    due: int
    expires: int | None = None
    fresh: bool = True

    @property
    def lane(self) -> tuple[str, int, str]:
        return self.queue, self.priority, self.function


@dataclass
class Breaker:
    failures: int = 0
    opened: int | None = None
    trial: str = ""
    lapses: float = math.inf


@dataclass
class LimitsModel:
    limits: dict[str, Limits]
    lease: int
    now: int
    waiting: dict[str, Waiting] = field(default_factory=dict)
    at_work: dict[str, Waiting] = field(default_factory=dict)
    placed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Of runs at work that hold a place: function and slot."""
    calls: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    callers: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    """In the order they came, until when they may ask again."""
    rates: dict[tuple[str, str], float] = field(default_factory=dict)
    breakers: dict[str, Breaker] = field(default_factory=dict)
    served: dict[tuple[str, int, str], dict[str, int]] = field(default_factory=dict)
    number: int = 0
    leases: dict[str, int] = field(default_factory=dict)
    """Of runs at work, until when."""

    def next(self) -> int:
        self.number += 1
        return self.number

    def slot(self, function: str, key: str | None) -> str:
        return (key or "") if self.limits[function].keyed else ""

    # --- what waits ---

    def wait(self, run: Waiting) -> None:
        self.waiting[run.id] = run
        if run.key is not None and not any(
            one.key == run.key and one.lane == run.lane and one is not run for one in self.waiting.values()
        ):
            self.served.setdefault(run.lane, {})[run.key] = self.next()

    def first_of(self, lane: tuple[str, int, str], key: str | None) -> Waiting:
        same = [one for one in self.waiting.values() if (one.lane, one.key) == (lane, key)]
        return min(same, key=lambda one: (*one.place, one.id.encode()))

    def turns(self, lane: tuple[str, int, str]) -> list[str]:
        """The keys that may begin, the one that was served longest ago first."""
        keys = {one.key for one in self.waiting.values() if one.lane == lane and one.key is not None}
        able = [key for key in keys if self.may_begin(self.first_of(lane, key))]
        return sorted(able, key=lambda key: self.served[lane][key])

    # --- whether a call may begin ---

    def live(self, found: dict[str, int] | None) -> dict[str, int]:
        return {holder: until for holder, until in (found or {}).items() if until > self.now}

    def used(self, function: str, slot: str) -> int:
        return list(self.placed.values()).count((function, slot)) + len(self.live(self.calls.get((function, slot))))

    def since(self, run: Waiting) -> float:
        """From when on its rate counts it: a run that waits may begin a little late, as far as that matters."""
        return max(run.due, self.now - LATE) if self.limits[run.function].every_ms < 1000 else self.now

    def rate_wait(self, function: str, slot: str, since: float | None = None) -> float:
        limits = self.limits[function]
        if not limits.every_ms:
            return 0.0
        begins = max(self.rates.get((function, slot), 0.0), self.now if since is None else since)
        wait = begins - self.now - (limits.burst - 1) * limits.every_ms
        return wait if wait > 0.001 else 0.0

    def take_rate(self, function: str, slot: str, since: float | None = None) -> None:
        if every := self.limits[function].every_ms:
            begins = self.now if since is None else since
            self.rates[function, slot] = max(self.rates.get((function, slot), 0.0), begins) + every

    def breaker(self, function: str) -> str:
        """yes, no or trial."""
        found = self.breakers.setdefault(function, Breaker())
        if not self.limits[function].failures or found.opened is None:
            return "yes"
        if found.opened + self.limits[function].reset_ms > self.now:
            return "no"
        lapses = self.leases.get(found.trial, math.inf) + 1 if found.lapses == math.inf else found.lapses
        return "no" if found.trial and lapses > self.now else "trial"

    def may_begin(self, run: Waiting, *, late: bool = True) -> bool:
        """late: as if it were the first of its key, which its rate counts from when it could begin."""
        if run.function not in self.limits:
            return True
        if self.limits[run.function].keyed and run.key is None:
            return True  # to be assigned a key
        if self.breaker(run.function) == "no":
            return False
        slot, most = self.slot(run.function, run.key), self.limits[run.function].concurrency
        callers = len(self.live(self.callers.get((run.function, slot))))
        if most and self.used(run.function, slot) + callers >= most:
            return False
        return self.rate_wait(run.function, slot, self.since(run) if late else None) == 0

    # --- runs ---

    def begin(self, run_id: str) -> None:
        run = self.waiting.pop(run_id)
        self.at_work[run_id] = run
        if run.function not in self.limits or (self.limits[run.function].keyed and run.key is None):
            return
        run.key = run.key or ""
        self.served.setdefault(run.lane, {})[run.key] = self.next()
        slot, limits = self.slot(run.function, run.key), self.limits[run.function]
        if limits.concurrency:
            self.placed[run_id] = (run.function, slot)
        self.take_rate(run.function, slot, self.since(run))
        if self.breaker(run.function) == "trial":
            self.breakers[run.function].trial, self.breakers[run.function].lapses = run_id, math.inf

    def end(self, run_id: str, verdict: str, stays_as: str = "") -> Waiting:
        run = self.at_work.pop(run_id)
        place = self.placed.pop(run_id, None)
        if run.function in self.limits and not (self.limits[run.function].keyed and run.key is None):
            self.judge(run.function, run_id, verdict)
        if place and stays_as:
            self.calls.setdefault(place, {})[stays_as] = self.now + self.lease
        return run

    def judge(self, function: str, holder: str, verdict: str) -> None:
        limits, found = self.limits[function], self.breakers.setdefault(function, Breaker())
        if not limits.failures:
            return
        if found.opened is None:
            found.failures = found.failures + 1 if verdict == "bad" else 0 if verdict == "good" else found.failures
            if found.failures >= limits.failures:
                self.breakers[function] = Breaker(opened=self.now)
        elif found.trial == holder:
            opened = {"good": None, "bad": self.now, "none": found.opened}[verdict]
            self.breakers[function] = Breaker(opened=opened)

    # --- calls ---

    def enter(self, function: str, key: str, holder: str, within: int) -> tuple[str, float]:
        limits, slot = self.limits[function], self.slot(function, key)
        place = (function, slot)
        breaker = self.breaker(function)
        callers = self.callers[place] = self.live(self.callers.get(place))
        if breaker == "no":
            callers.pop(holder, None)
            return "open", 0.0
        wait = 0.0
        if limits.concurrency and holder in self.live(self.calls.get(place)):
            wait = -1.0
        else:
            ahead = list(callers).index(holder) if holder in callers else len(callers)
            lost = sum(
                self.placed[run] == place and at < self.now for run, at in self.leases.items() if run in self.placed
            )
            used = self.used(*place) - (lost if ahead == 0 else 0)
            if limits.concurrency and used + ahead >= limits.concurrency:
                callers[holder] = self.now + WAIT
                return "wait", 0.0
            wait = self.rate_wait(*place)
            callers.pop(holder, None)
            if wait > within:
                return "late", wait
            self.take_rate(*place)
            if limits.concurrency:
                self.calls.setdefault(place, {})[holder] = self.now + self.lease + math.ceil(wait)
        if breaker == "trial":
            self.breakers[function].trial = holder
            self.breakers[function].lapses = self.now + self.lease + math.ceil(max(0.0, wait))
        return "in", max(0.0, wait)

    def leave(self, function: str, key: str, holder: str, verdict: str, *, stays: bool) -> None:
        self.judge(function, holder, verdict)
        if not stays:
            self.calls.get((function, self.slot(function, key)), {}).pop(holder, None)

    def keep(self, function: str, key: str, holder: str) -> None:
        if self.limits[function].concurrency:
            self.calls.setdefault((function, self.slot(function, key)), {})[holder] = self.now + self.lease
        found = self.breakers.setdefault(function, Breaker())
        if self.limits[function].failures and found.trial == holder:
            found.lapses = self.now + self.lease

    def give_up(self, function: str, key: str, holder: str) -> None:
        self.callers.get((function, self.slot(function, key)), {}).pop(holder, None)
