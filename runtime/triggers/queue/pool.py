"""Celery's pool: the crew behind it runs what the strategy hands over.

Made by Celery. Everything here runs in the hub's thread; the crew's loop wakes it through a socket.
"""

import socket
from contextlib import suppress
from typing import Any

from celery.concurrency.base import BasePool
from typing_extensions import override

from runtime.triggers.queue.crew import Crew
from runtime.triggers.queue.leases import Lease
from runtime.triggers.queue.strategy import note_end

_WAKE_BYTES = 4096


class Pool(BasePool):  # type: ignore[misc]  # Celery has no types
    """One event loop for async handlers, threads for sync ones; `limit` runs at once."""

    signal_safe = False
    task_join_will_block = False
    body_can_be_buffer = True

    def __init__(self, *args: Any, app: Any, **options: Any) -> None:
        super().__init__(*args, app=app, **options)
        self.crew: Crew = app.crew
        self.put = self.crew.put
        self.consumer: Any = None
        self.drain_seconds: float = app.drain_seconds
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self.crew.wake_hub = self.wake

    def wake(self) -> None:
        """Have the hub turn; from any thread, and from signal handlers."""
        with suppress(OSError):  # full: it is awake
            self._waker.send(b"\0")

    @override
    def register_with_event_loop(self, loop: Any) -> None:
        loop.add_reader(self._woken, self._on_wake)

    def _on_wake(self) -> None:
        with suppress(OSError):
            self._woken.recv(_WAKE_BYTES)
        for lease, ending in self.crew.take_ended():
            note_end(self.consumer, lease, ending)

    def cancel(self, lease: Lease) -> None:
        """End a run's handler; the run is cancelled."""
        self.crew.cancel(lease)

    @override
    def on_stop(self) -> None:
        self.crew.end(self.drain_seconds)

    on_terminate = on_stop

    @override
    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "free": self.crew.free}
