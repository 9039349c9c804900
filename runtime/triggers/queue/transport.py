"""A kombu transport whose queue is the ledger: the worker's channel waits for doorbells and claims runs.

Used by Celery through the app. Only the connection that has a feed (the worker's, see consumer) is different; all
others, and all that is no queue of ours (remote control, events, replies), is kombu's own Redis transport. What differs
from it, and why:

- kombu pops a message and records it in two steps (kombu#305); the ledger's claim is one, so nothing is to be restored,
  and acknowledgements mean nothing.
- kombu builds a Redis client a command; one a channel is kept here.
- redis-py retries ten times by default, with pauses in which the worker is deaf; Celery's own reconnecting does it.
"""

from collections.abc import Sequence
from time import monotonic
from typing import Any, Protocol

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as stock
from kombu.transport.virtual.base import QoS as PlainQoS
from redis.backoff import NoBackoff
from redis.retry import Retry
from typing_extensions import override

from runtime.base.errors import StoreDown
from runtime.triggers.queue.leases import Lease

NAME = "fnrun"
"""Its scheme, for URLs: fnrun+socket:///path."""

TRANSPORT_ALIASES[NAME] = f"{__name__}:Transport"

_RING_SECONDS = 1
"""So long a doorbell is waited for at most; then the ledger is asked anyway."""


_PARTS = 4
"""A claim takes a quarter of the slots: while some runs are executed, others are claimed, and the store has no pause.
Of more at once, each would wait for the whole answer; and what begins together ends together, and waits again."""

_GATHER_SECONDS = 0.004
_FEW = 4
"""While less than a quarter of its slots is free, a busy worker claims at most so often."""


class Feed(Protocol):
    """Where runs come from: the crew."""

    @property
    def limit(self) -> int:
        """How many runs at once."""
        ...

    @property
    def free(self) -> int:
        """For how many runs there is room."""
        ...

    def claim(self, queues: Sequence[str], slots: int) -> list[Lease]:
        """Take at most so many runs. StoreDown if the store does not answer."""
        ...

    def bell(self, queue: str) -> str:
        """The key of a queue's doorbell."""
        ...

    def give_back(self, lease: Lease) -> None:
        """Hand a run back that nobody here knows."""
        ...


class RunMessage:
    """A claimed run, as kombu and Celery hand messages on. There is nothing to decode and nothing to acknowledge."""

    __slots__ = ("accept", "feed", "headers", "lease")

    body = b""
    content_type = "application/json"
    content_encoding = "utf-8"
    errors: tuple[()] = ()
    acknowledged = True

    def __init__(self, lease: Lease, feed: Feed) -> None:
        self.lease = lease
        self.feed = feed
        self.headers = {"task": lease.run.function, "id": lease.run.id}

    @property
    def properties(self) -> dict[str, Any]:
        """What Celery's log lines show."""
        return {"correlation_id": self.lease.run.id, "delivery_tag": self.lease.run.token}

    @property
    def delivery_info(self) -> dict[str, Any]:
        """Where it came from."""
        return {"exchange": "", "routing_key": self.lease.run.queue, "priority": self.lease.run.priority}

    def give_back(self, *_: Any, **__: Any) -> None:
        """Celery does not know what to do with it: our strategy neither acknowledges nor rejects."""
        self.feed.give_back(self.lease)

    ack = ack_log_error = reject = reject_log_error = give_back


class QoS(PlainQoS):  # type: ignore[misc]  # kombu has no types
    """Messages that are remembered nowhere but in the ledger."""

    restore_at_shutdown = False

    @override
    def can_consume(self) -> bool:
        return True

    @override
    def append(self, message: Any, delivery_tag: Any) -> None:
        pass

    @override
    def ack(self, delivery_tag: Any) -> None:
        pass

    @override
    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        pass

    def restore_visible(self, *_: Any, **__: Any) -> None:
        """Nothing is hidden."""


class Channel(stock.Channel):  # type: ignore[misc]  # kombu has no types
    """kombu's channel, but for what comes from the ledger. _receive_run: what Celery does with a message, by queue."""

    QoS = QoS
    _kept: Any = None
    _hungry = False
    """The last claim brought as many as it could: there may be more."""
    _take_again_at = 0.0
    _turn_at = 0.0

    def __init__(self, *args: Any, **options: Any) -> None:
        self._receive_run: dict[str, Any] = {}
        super().__init__(*args, **options)

    @property
    def _feed(self) -> Feed | None:
        return getattr(self.connection, "feed", None)

    @override
    def basic_consume(self, queue: str, no_ack: bool, callback: Any, *args: Any, **options: Any) -> Any:
        self._receive_run[queue] = callback
        return super().basic_consume(queue, no_ack, callback, *args, **options)

    @override
    def message_to_python(self, raw_message: Any) -> Any:
        return raw_message if isinstance(raw_message, RunMessage) else super().message_to_python(raw_message)

    @override
    def _brpop_start(self, timeout: float | None = None) -> None:
        feed = self._feed
        if feed is None:
            super()._brpop_start(timeout)
            return
        for _ in range(_PARTS):  # the hub turns again when runs have ended, and no sooner
            if self._hungry and feed.free > 0 and not self._waits_for_more_room(feed):
                self._take(feed)
        if self._hungry or feed.free <= 0:
            return  # when a run ends, the hub turns, and comes by here
        bells = [feed.bell(queue) for queue in self.active_queues]
        connection = self.client.connection
        self._in_poll = connection
        self._brpop_sent_at = monotonic()
        connection.send_command("BRPOP", *bells, _RING_SECONDS)

    @override
    def _brpop_read(self, **options: Any) -> bool:
        feed = self._feed
        if feed is None:
            return bool(super()._brpop_read(**options))
        connection = self.client.connection
        try:
            connection.read_response()
        except self.connection_errors:
            connection.disconnect()
            raise
        finally:
            self._in_poll = None
        self._take(feed)
        return True

    def _waits_for_more_room(self, feed: Feed) -> bool:
        """Whether to let a few more runs end first: a claim of many costs the store less than many of one."""
        wait = self._take_again_at - monotonic()
        if feed.free * _FEW >= feed.limit or wait <= 0:
            return False
        if feed.free > 0 and self._turn_at < self._take_again_at:
            self._turn_at = self._take_again_at
            self.connection.loop.call_later(wait, _turn)
        return True

    def _take(self, feed: Feed) -> None:
        """Claim as many runs as there is room for, and hand them on. In parts: while some run, others are claimed."""
        slots = min(feed.free, -(-feed.limit // _PARTS))
        queues = self.active_queues
        if slots <= 0 or not queues:
            self._hungry = slots <= 0 and bool(queues)
            return
        try:
            leases = feed.claim(queues, slots)
        except StoreDown as error:
            self._hungry = False
            raise ConnectionError(str(error)) from error
        self._hungry = len(leases) == slots
        self._take_again_at = monotonic() + _GATHER_SECONDS
        for lease in leases:
            self._receive_run[lease.run.queue](RunMessage(lease, feed))

    @override
    def close(self) -> None:
        if self._in_poll and self._feed is not None:
            self.client.connection.disconnect()  # kombu would wait for the answer
            self._in_poll = None
        super().close()

    @override
    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        return {**super()._connparams(asynchronous=asynchronous), "retry": Retry(NoBackoff(), 0)}

    @override
    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._kept is None:
            self._kept = super()._create_client()
        return self._kept

    @override
    def _disconnect_pools(self) -> None:
        self._kept = None
        super()._disconnect_pools()


class Transport(stock.Transport):  # type: ignore[misc]  # kombu has no types
    """kombu's Redis transport with our channel. feed: where the worker's runs come from; None for anybody else."""

    Channel = Channel
    feed: Feed | None = None
    loop: Any = None

    @override
    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        self.loop = loop
        super().register_with_event_loop(connection, loop)


def _turn() -> None:
    """Nothing: a timer that lets the hub turn."""
