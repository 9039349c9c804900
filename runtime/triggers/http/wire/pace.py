"""How many requests may begin, told by how long the event loop takes for a round. Pure: knows no loop, and no clock.

Asked by overload. While all is well a round may be long: a burst is no overload, and a client with 200 connections is
none either. From the first refusal on rounds are kept short, and until there has been none for a while.
"""

import math
from collections import deque

_ROUND_SECONDS = 0.01
"""How long a round may be in an overload: about as long as a refusal may take."""
_BACKLOG_SECONDS = 0.25
"""How long it may be otherwise: what is still an answer in good time."""
_HORIZON_SECONDS = 0.2
"""Of the loop's time: what is remembered in an overload. Longer than most calls wait before they compute."""
_LATE_SECONDS, _LATE_HORIZON_SECONDS = 0.08, 0.05
"""In an overload: how long rounds may be in the mean, of so much time. Calls that wait first come back many at once."""
_STEP, _STEEPEST = 0.3, 3.0
"""In an overload: what part more than it does the loop may be given, if rounds are short; how many times that less."""
_LEAST, _LEAST_BURST, _FIRST_BURST = 3, 128, 500
"""Requests a round: in an overload, otherwise, and before any has been measured. For few and slow ones, say imports."""
_COSTS, _MANY = 7, 64
"""Rounds whose costs are kept; requests that tell the cost of one, over several rounds."""


class Pace:
    """How many requests may begin. Pure: told how long each round was, and how many requests have ended in it.

    While all is well, a round's cost a request has everything in it that the loop did meanwhile, so that a loop with
    other work takes in less. Of the last few the median counts: one with an import in it says nothing of the next.

    In an overload that would not do: calls that wait first and compute later do so in other rounds than they began in.
    So one may begin for each that ends, and some more or less, as rounds are shorter or longer than they may be.
    """

    def __init__(self) -> None:
        self.shedding = False
        self._taken = 0
        self._room = float(_FIRST_BURST)
        self._costs: deque[float] = deque(maxlen=_COSTS)
        self._busy_seconds = self._begun = self._ended = self._late_seconds = 0.0
        self._credit = 0.0

    def take(self) -> bool:
        """Whether one more may begin in this round. An overload begins with the first that may not."""
        if self._room < 1:
            if not self.shedding:
                self.shedding, self._credit = True, 0.0
            return False
        self._room -= 1
        self._credit -= 1
        self._taken += 1
        return True

    def give_back(self) -> None:
        """One that was let in does not begin."""
        self._room += 1
        self._credit += 1
        self._taken -= 1

    def measure(self, seconds: float, ended: int, idle_seconds: float = 0.0) -> None:
        """The round is over, and took so long; so many have ended since the last one, so long before it began."""
        seconds = max(seconds, 1e-6)
        self._remember(seconds, ended, idle_seconds)
        if self._taken:
            self._costs.append(seconds / self._taken)
        if self.shedding:
            self._refill(seconds, ended, idle_seconds)
        elif self._taken:
            cost = sorted(self._costs)[len(self._costs) // 2]
            if self._taken >= _COSTS:  # many at once are a measure by themselves, and there may be no second
                cost = max(cost, self._costs[-1])
            if (known := max(self._begun, self._ended)) >= _MANY:  # and so are many that come back from their waiting
                cost = max(cost, self._busy_seconds / known)
            self._room = max(_LEAST_BURST, _BACKLOG_SECONDS / cost)
        self._taken = 0

    def _remember(self, seconds: float, ended: int, idle_seconds: float) -> None:
        known = min(seconds, _HORIZON_SECONDS)  # one with an import in it is not remembered for longer
        keep = math.exp(-known / _HORIZON_SECONDS)
        self._busy_seconds = self._busy_seconds * keep + known
        self._begun = self._begun * keep + self._taken * known / seconds
        self._ended = self._ended * keep + ended * known / seconds
        passed = seconds + idle_seconds
        keep = math.exp(-passed / _LATE_HORIZON_SECONDS)
        self._late_seconds = self._late_seconds * keep + (1 - keep) * seconds * seconds / passed

    def _refill(self, seconds: float, ended: int, idle_seconds: float) -> None:
        passed, a_second = seconds + idle_seconds, self._ended / self._busy_seconds
        least = _LEAST / _ROUND_SECONDS
        off = 1 - self._late_seconds / _LATE_SECONDS
        more = _STEP * a_second * max(off, -_STEEPEST)
        if off < 0:  # what is to begin less is not owed for ever
            self._credit = max(self._credit + ended + more * passed, -a_second * _LATE_HORIZON_SECONDS)
        else:
            self._credit += ended + (max(more, least - a_second) * passed if self._room < _LEAST else 0.0)
        if seconds >= _ROUND_SECONDS:
            self._credit = max(self._credit, float(_LEAST))
        self._room = min(self._credit, max(float(_LEAST), a_second * _ROUND_SECONDS))

    def relax(self) -> None:
        """Nobody had to be refused for a while."""
        if self.shedding:
            self.shedding = False
            self._room = float(_LEAST_BURST)
