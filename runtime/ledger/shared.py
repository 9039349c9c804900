"""Questions that are asked in one turn of an event loop, or while the store answers, go to the store as one.

Used by the desk for what thousands of tasks ask at once: accept, show. Knows no store: it is given what asks.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Generic, TypeVar

from runtime.base.errors import StoreDown

Q = TypeVar("Q")
A = TypeVar("A")


class Shared(Generic[Q, A]):
    """One loop's questions of one kind. ask: answers several in their order; most: how many at once.

    One call is under way at a time: what comes meanwhile is the next. Whoever is cancelled takes no other along.
    """

    def __init__(self, ask: Callable[[list[Q]], Awaitable[list[A]]], most: int) -> None:
        self._ask = ask
        self._most = most
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """The answer to one question. Raises what `ask` raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[A] = loop.create_future()
        self._waiting.append((question, answer))
        if self._task is None:  # it begins after this turn; in no caller's context, for it works for all of them
            self._task = loop.create_task(self._work(), context=Context())
        return await answer

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = self._take()
                if batch:
                    await self._answer(batch)
        finally:
            self._task = None
            self._end(self._waiting, None)

    def _take(self) -> list[tuple[Q, asyncio.Future[A]]]:
        """The next questions that somebody still waits for."""
        count = min(len(self._waiting), self._most)
        batch = [self._waiting.popleft() for _ in range(count)]
        return [one for one in batch if not one[1].done()]

    async def _answer(self, batch: list[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._ask([question for question, _ in batch])
        except asyncio.CancelledError:
            self._end(batch, None)
            raise
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            self._end(batch, error)
            if isinstance(error, StoreDown):  # nobody shall wait for the store to be down once more
                self._end(self._waiting, error)
                self._waiting.clear()
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    @staticmethod
    def _end(
        batch: "deque[tuple[Q, asyncio.Future[A]]] | list[tuple[Q, asyncio.Future[A]]]", error: Exception | None
    ) -> None:
        for _, future in batch:
            if not future.done():
                if error is None:
                    future.cancel()
                else:
                    future.set_exception(error)
