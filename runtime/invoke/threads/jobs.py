"""A call in a thread without a future of its own: those that have ended come back together, once a turn of the loop.

Made by pool, used by direct. To wake a loop costs a system call: all that end until it turns share one.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context as Variables
from typing import Any

Back = Callable[[Any], None]


class Returns:
    """What has ended in threads, on its way back to a loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._ended: deque[Job] = deque()
        self._is_told = False
        self._variables = Variables()

    def put(self, job: "Job") -> None:
        """From its thread."""
        self._ended.append(job)
        if not self._is_told:
            self._is_told = True
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self.loop.call_soon_threadsafe(self._hand_back, context=self._variables)

    def _hand_back(self) -> None:
        self._is_told = False  # what ends from now on tells the loop anew
        try:
            for _ in range(len(self._ended)):
                job = self._ended.popleft()
                if not job.is_left:
                    job.hand_back()
        finally:  # should one raise all the same, the others come back
            if self._ended and not self._is_told:
                self._is_told = True
                self.loop.call_soon(self._hand_back, context=self._variables)


class Job:
    """One call. is_left: nobody waits for it. is_done: it has ended, with this value.

    call: raises nothing. back: called on the loop with its value; raises nothing either. on_left: called in its
    thread, if it ends when nobody waits.
    """

    __slots__ = ("_call", "_chance", "_on_left", "_returns", "back", "is_done", "is_left", "value")

    def __init__(
        self,
        call: Callable[[], Any],
        back: Back,
        returns: Returns,
        on_left: "Callable[[Job], object]",
    ) -> None:
        self._call = call
        self._returns = returns
        self._on_left = on_left
        self._chance = [None]  # whoever takes it out decides whether the call begins
        self.back = back
        self.is_left = self.is_done = False
        self.value: Any = None

    @property
    def future(self) -> "Job":
        """What a pool that is closed cancels."""
        return self

    def run(self, *_: object) -> None:
        """In its thread. Later Pythons give it more."""
        if not self._begins():
            return
        self.value = self._call()
        self.is_done = True
        if self.is_left:
            self._on_left(self)
        else:
            self._returns.put(self)

    def hand_back(self) -> None:
        """On the loop. It keeps nothing that is its caller's: a cycle else, or its thread's to take apart."""
        back, value = self.back, self.value
        self.back = self._call = self.value = None  # type: ignore[assignment]  # it is not asked again
        back(value)

    def cancel(self) -> bool:
        """Nobody waits for it any more. Whether it never begins."""
        self.is_left = True
        return self._begins()

    def _begins(self) -> bool:
        try:
            self._chance.pop()
        except IndexError:
            return False
        return True
