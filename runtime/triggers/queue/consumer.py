"""Celery's consumer, which claims from the ledger, and whose patience with the store has no end.

Made by Celery. Says in our words and our log what Celery would say in many lines at each try.
"""

import time
from collections.abc import Callable
from typing import Any

from celery.utils.threads import bound_open_broker_sockets
from celery.worker.consumer import Consumer as StockConsumer
from celery.worker.state import maybe_shutdown
from kombu.common import ignore_errors
from typing_extensions import override

from runtime.base.errors import StoreDown
from runtime.base.logs import get_logger
from runtime.triggers.queue.transport import RunMessage

log = get_logger(__name__)

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0
_REFUSED_SECONDS = 0.5
_CLEAN_UP_SECONDS = 1.0


class Consumer(StockConsumer):  # type: ignore[misc]  # Celery has no types
    """feeds its connection from the crew; reconnects within about a second of the store's return."""

    connection: Any
    _told = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.pool.consumer = self

    @override
    def connect(self) -> Any:
        connection = super().connect()
        connection.transport.feed = self.pool.crew
        return connection

    @override
    def ensure_connected(self, conn: Any) -> Any:
        connected = self._connect(conn)
        while not self._is_served():
            time.sleep(_REFUSED_SECONDS)
            maybe_shutdown()
            connected = self._connect(conn)
        self.first_connection_attempt = False
        if self._told:
            log.info("the store is back")
            self._told = False
        return connected

    @override
    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        stock: Callable[[Any], Any] = super().create_task_handler(*args, **options)
        strategies = self.strategies

        def receive(message: Any) -> Any:
            """A claimed run needs none of the promises that Celery makes for each message."""
            strategy = strategies.get(message.lease.run.function) if isinstance(message, RunMessage) else None
            return stock(message) if strategy is None else strategy(message)

        return receive

    def _connect(self, conn: Any) -> Any:
        return conn.ensure_connection(
            self._on_no_connection,
            interval_start=_FIRST_PAUSE_SECONDS,
            interval_step=_FIRST_PAUSE_SECONDS,
            interval_max=_LONGEST_PAUSE_SECONDS,
            callback=maybe_shutdown,
        )

    def _is_served(self) -> bool:
        """Whether the store does its work: one that refuses it would end each connection with its first claim."""
        try:
            self.pool.crew.register()
        except StoreDown as error:
            self._on_no_connection(error, 0.0)
            return False
        return True

    def _on_no_connection(self, error: Exception, _: float) -> None:
        if not self._told:
            self._told = True
            log.warning("the store cannot be reached; trying again until it can", reason=str(error))

    @override
    def on_connection_error_before_connected(self, exc: Exception) -> None:
        self._on_no_connection(exc, 0.0)

    @override
    def on_connection_error_after_connected(self, exc: Exception) -> None:
        self._on_no_connection(exc, 0.0)
        bound_open_broker_sockets(self.connection, _CLEAN_UP_SECONDS)
        ignore_errors(self.connection, self.connection.collect, socket_timeout=_CLEAN_UP_SECONDS)
        connection, self.connection = self.connection, None
        ignore_errors(connection, connection.close)
