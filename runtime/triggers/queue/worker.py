"""The queue's worker: Celery's own worker in this process, on our transport and our pool.

Called by roles. The main thread is Celery's (its hub); handlers run on the crew's loop.
"""

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterable
from typing import Any

from celery.signals import worker_ready
from celery.worker import WorkController, state
from kombu.utils.url import maybe_sanitize_url
from typing_extensions import override

from runtime.base.logs import get_logger
from runtime.declare.registry import Function
from runtime.triggers.queue.app import App
from runtime.triggers.queue.clients import control
from runtime.triggers.queue.consumer import Consumer
from runtime.triggers.queue.crew import Crew
from runtime.triggers.queue.parts import Opens
from runtime.triggers.queue.pool import Pool

log = get_logger(__name__)

_QUIET = ("celery", "kombu", "celery.worker.consumer", "amqp")


def worker_name() -> str:
    """A name no other worker has, as Celery wants it."""
    return f"worker-{os.getpid()}-{secrets.token_hex(3)}@{socket.gethostname()}"


class Controller(WorkController):  # type: ignore[misc]  # Celery has no types
    """Celery's worker, without its banner, its logging and its signal handlers. on_ready: called when it consumes."""

    on_ready: Callable[[], None] | None = None

    @override
    def on_consumer_ready(self, consumer: Consumer) -> None:
        worker_ready.send(sender=consumer)
        if self.on_ready is not None:
            self.on_ready()

    @override
    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = super().stats()
        broker = found.get("broker")
        if isinstance(broker, dict):  # a socket's URL is the "hostname", with the password in it
            broker["hostname"] = maybe_sanitize_url(broker.get("hostname"))
        return found


class QueueWorker:
    """Make it, `run` it in the main thread. name: of this worker, for Celery and the ledger."""

    def __init__(self, app: App, crew: Crew, name: str, *, drain_seconds: float) -> None:
        app.crew = crew
        app.drain_seconds = drain_seconds
        self._app = app
        self._crew = crew
        self._name = name
        self._stops = 0
        self._controller: Controller | None = None
        self._queues_told: set[str] = set()

    def run(
        self,
        functions: Iterable[Function],
        resources: Opens,
        new_loop: Callable[[], asyncio.AbstractEventLoop],
        on_ready: Callable[[], None],
    ) -> int:
        """Claim and run until told to stop, by SIGTERM, SIGINT, SIGQUIT or `stop`. The exit code.

        StartError if a resource cannot be opened.
        """
        for one in _QUIET:
            logging.getLogger(one).setLevel(logging.WARNING)
        logging.getLogger("kombu.transport.redis").setLevel(
            logging.ERROR
        )  # it says with a traceback what we say of a store
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._on_signal)
        if not self._crew.begin(functions, resources, new_loop):
            return 0
        self._app.adopt(self._crew.functions, self._crew.queues)
        self._queues_told.update(self._crew.queues)
        control.install()
        self._controller = Controller(
            app=self._app,
            hostname=self._name,
            pool=Pool,
            concurrency=self._crew.limit,
            without_gossip=True,
            without_mingle=True,
        )

        def on_consumer_ready() -> None:
            self._crew.on_new_queues = self.adopt
            self.adopt()  # some may have been met meanwhile
            on_ready()

        self._controller.on_ready = on_consumer_ready
        self._controller.start()
        return self._controller.exitcode or 0

    def _on_signal(self, number: int, _: object) -> None:
        self.stop(at_once=number == signal.SIGQUIT or self._stops > 0)

    def stop(self, *, at_once: bool = False) -> None:
        """Claim no more; end when the handlers have ended, or at once, handing their runs back. From any thread."""
        self._stops += 1
        self._crew.closing = True
        state.should_stop = 0
        if self._crew.open_no_more():
            return
        if at_once:
            self._crew.hurry()
        self._crew.wake_hub()

    def adopt(self) -> None:
        """Let Celery and the ledger know of the crew's functions; from any thread."""
        if self._controller is not None:
            self._controller.hub.call_soon(self._adopt, self._controller.consumer)

    def _adopt(self, consumer: Consumer) -> None:
        self._crew.register_soon()
        self._app.adopt(self._crew.functions, self._crew.queues)
        if consumer.task_consumer is None:  # it is connecting, and will see them all
            return
        consumer.update_strategies()
        new = set(self._crew.queues) - self._queues_told  # another may have been taken from it by `cancel_consumer`
        self._queues_told |= new
        for queue in sorted(new):
            consumer.add_task_queue(queue)
