"""A manager on the test's loop, closed at its end; nothing may be left of it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from runtime.base.sections import BackgroundSettings
from runtime.tasks.home import close_manager, open_manager
from runtime.tasks.manager import Manager

Makes = Callable[..., Manager]


@pytest.fixture
async def make() -> AsyncIterator[Makes]:
    """Open a manager with these settings; `background` then means it."""
    made: list[Manager] = []

    def make(**settings) -> Manager:
        made.append(open_manager(BackgroundSettings(**settings)))
        return made[-1]

    yield make
    for manager in made:
        await close_manager(manager, 0.0)
    await reach(lambda: not [task for task in asyncio.all_tasks() if "TestRunner" not in repr(task.get_coro())])


@pytest.fixture
async def manager(make: Makes) -> Manager:
    return make()


class Gate:
    """Holds threads and coroutines until it is opened; `held` is how many it holds."""

    def __init__(self) -> None:
        self.held = 0
        self._open = threading.Event()
        self._lock = threading.Lock()

    def open(self) -> None:
        self._open.set()

    def wait(self, *_: object) -> str:
        with self._lock:
            self.held += 1
        try:
            self._open.wait(30)
        finally:
            with self._lock:
                self.held -= 1
        return "through"

    async def pause(self, *_: object) -> str:
        self.held += 1
        try:
            while not self._open.is_set():  # noqa: ASYNC110 - threads open it
                await asyncio.sleep(0.005)
        finally:
            self.held -= 1
        return "through"


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open()


async def reach(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Until a condition holds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - whatever it looks at
                await asyncio.sleep(0.005)
    assert condition()
