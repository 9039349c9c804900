"""Await from code without a loop: one event loop in a thread of its own, for the whole process.

Used by submit_sync and SyncRun, so that what they do is written once. The thread begins with the first call, and anew
after a fork; it ends with the process.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_END_SECONDS = 2.0


class _Portal:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="fnrun-portal", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._stop.wait())

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("submit_sync is called from its own event loop; use submit there")
        # The task has the caller's context: whoever submits inside a handler is that handler's child.
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C, while waiting
            raise

    def end(self) -> None:
        """End the loop, with what its tasks hold."""
        if self.pid == os.getpid() and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_END_SECONDS)


_portal: _Portal | None = None
_starting = threading.Lock()


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns, or raises. Blocks the thread; any thread may call it."""
    return _opened().call(work)


def _opened() -> _Portal:
    global _portal  # noqa: PLW0603 - one a process
    with _starting:
        if _portal is None or _portal.pid != os.getpid():
            _portal = _Portal()
            atexit.register(_portal.end)
        return _portal


def _after_fork() -> None:
    global _starting  # noqa: PLW0603 - the parent's may be held by a thread that is not here
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
