"""How many requests may begin. Pure: knows no loop, and no clock.

Told by overload, turn by turn of the loop, how long it was at work, and how long what is ready has to wait.
"""

import math

_BACKLOG_SECONDS = 0.25
"""What may be begun in one turn, and how long what is ready may wait, before it is an overload."""
_DELAY_SECONDS = 0.04
"""How long it is to wait in an overload: so long that the loop is not without work, and no longer."""
_HORIZON_SECONDS = 0.2
"""Of work: what is remembered of its costs."""
_STEP = 0.3
"""In an overload: what part more or less than it can the loop is given, as what is ready waits shorter or longer."""
_LEAST_A_SECOND, _IDLE_A_SECOND = 20.0, 500.0
"""Requests that may begin in an overload, whatever they cost; and while the loop has nothing to do."""
_LEAST, _LEAST_BURST, _FIRST_BURST = 3, 128, 500
"""Requests that may begin at once: in an overload, otherwise, and before any has been measured. For imports, say."""
_FEW = 100
"""So many may be at work before it is an overload, however long they wait: a client may have so many connections."""
_FIRST_CROWD = 16
"""Requests that are a crowd, before any has been measured."""
LONG_SECONDS = 0.01
"""A turn of the loop that is long: about as long as a refusal may take."""


class Pace:
    """How many requests may begin.

    While all is well, as many as can be done in good time. A burst is none too many, nor is a client with 200
    connections. In an overload one may begin for each that ends, more where the loop has nothing to do, and some more
    or less as what is ready waits: calls that wait first and compute later do so long after they have begun, and
    whoever counts what is to be computed now lets in too many of them, then none.

    taken: how many have begun since the last measure. crowd: how many of them make a long turn.
    """

    def __init__(self) -> None:
        self.shedding = False
        self._room = float(_FIRST_BURST)
        self.taken = 0
        self.crowd = _FIRST_CROWD
        self._worked_seconds = self._begun = self._ended = 0.0

    def take(self) -> bool:
        """Whether one more may begin. An overload begins with the first that may not."""
        if self._room < 1:
            if not self.shedding:
                self.shedding, self._room = True, 0.0
            return False
        self._room -= 1
        self.taken += 1
        return True

    def give_back(self) -> None:
        """One that was let in does not begin."""
        self._room += 1
        self.taken -= 1

    @property
    def cost(self) -> float:
        """Seconds of the loop for a request, of late."""
        return self._worked_seconds / max(self._begun, self._ended, 1.0)

    def measure(
        self, passed_seconds: float, busy_seconds: float, worked_seconds: float, ended: int, delay: float, at_work: int
    ) -> None:
        """Since the last time so much time has passed, in which so many requests have ended.

        busy_seconds: in which the loop had something to do. worked_seconds: of these, on requests that were let in.
        delay: how long one more would have to wait now, in seconds. at_work: requests that have begun and not ended.
        """
        passed_seconds = max(passed_seconds, 1e-6)
        self._remember(worked_seconds, ended)
        if self.shedding:
            self._refill(passed_seconds, 1 - busy_seconds / passed_seconds, ended, delay)
        else:
            cost = max(self.cost, 1e-6)
            left = max(_BACKLOG_SECONDS - delay, 0.0)
            self._room = max(float(_LEAST_BURST), left / cost) if left else float(_FEW - at_work)
            self.crowd = max(1, int(LONG_SECONDS / cost))

    def _remember(self, worked_seconds: float, ended: int) -> None:
        known = min(worked_seconds, _HORIZON_SECONDS)  # an import is not remembered for longer
        part = known / worked_seconds if worked_seconds else 1.0
        keep = math.exp(-known / _HORIZON_SECONDS)
        self._worked_seconds = self._worked_seconds * keep + known
        self._begun = self._begun * keep + self.taken * part
        self._ended = self._ended * keep + ended * part
        self.taken = 0

    def _refill(self, passed_seconds: float, idle: float, ended: int, delay: float) -> None:
        can = self._ended / max(self._worked_seconds, 1e-6)  # a second
        more = _STEP * can * max(1 - delay / _DELAY_SECONDS, -1.0 if delay < _BACKLOG_SECONDS else -2.5)
        if delay < _DELAY_SECONDS:
            more = max(more, idle * max(can, _IDLE_A_SECOND))
        most = max(float(_LEAST), can * _DELAY_SECONDS)
        gained = max(ended + more * passed_seconds, _LEAST_A_SECOND * passed_seconds)
        self._room = min(max(self._room, -most) + gained, most)

    def relax(self) -> None:
        """Nobody had to be refused for a while."""
        if self.shedding:
            self.shedding = False
            self._room = float(_LEAST_BURST)
