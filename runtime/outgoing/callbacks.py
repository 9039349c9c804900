"""Deliver callbacks: a thread of each worker, beside its runs, with an event loop and a connection of its own.

Started by the worker's role. A message is taken by a lease, sent, and written off; whoever dies in between leaves it
to another, who sends it again under the same id. So each arrives at least once, or is a dead letter.
"""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runtime.base.errors import StoreDown
from runtime.base.logs import get_logger
from runtime.base.sections import CallbackSettings
from runtime.base.web.places import Refused, check_url
from runtime.base.webhooks import secret_of
from runtime.ledger.callbacks.calls import take, tell
from runtime.ledger.callbacks.policy import check_host
from runtime.ledger.callbacks.records import Message, Told
from runtime.ledger.calls import ado
from runtime.ledger.desk import Store
from runtime.ledger.ledger import Ledger
from runtime.outgoing.messages import body_of

if TYPE_CHECKING:  # it loads httpx, which a worker without callbacks does without
    from runtime.outgoing.sender import Sender, Sent

log = get_logger(__name__)

_MOST = 32
_LOOK_SECONDS = 0.25
_LEAST_SECONDS = 0.05
"""Between two looks: where much waits, one costs the store some ms."""
_DOWN_SECONDS = 1.0
_LEASE_SPARE_SECONDS = 5.0
_LONGEST_ERROR = 300
_GONE = 410
_JITTER = 0.2


def pause_of(tries: int, asked_seconds: float | None, settings: CallbackSettings, draw: Callable[[], float]) -> float:
    """Seconds until the next try after so many. asked_seconds: what the receiver wants at least.

    first * 3**(tries - 1), at most the longest, and up to a fifth more, so that receivers that come back are not
    met by all at once. draw: from [0, 1).
    """
    longest = float(settings.retry_longest)
    usual = min(longest, float(settings.retry_first) * 3.0 ** min(tries - 1, 30))
    return max(usual * (1 + _JITTER * draw()), min(asked_seconds or 0.0, longest))


def judge(message: Message, sent: "Sent", settings: CallbackSettings, draw: Callable[[], float]) -> Told:
    """What becomes of a message after a try."""
    tries = message.tries + 1
    over = sent.refused or sent.status == _GONE or tries >= settings.attempts
    verdict = "delivered" if sent.is_good else "dead" if over else "waiting"
    return Told(
        id=message.id,
        token=message.token,
        verdict=verdict,  # type: ignore[arg-type]  # mypy takes the three words for any
        status=sent.status,
        error=sent.told[:_LONGEST_ERROR],
        pause_seconds=pause_of(tries, sent.retry_after, settings, draw) if verdict == "waiting" else 0.0,
    )


class Deliverer:
    """The thread. store: gives it a client for its loop."""

    def __init__(self, store: Store, ledger: Ledger, settings: CallbackSettings) -> None:
        self._store = store
        self._ledger = ledger
        self._settings = settings
        self._secrets: Sequence[bytes] = ()
        self._sender: Sender | None = None
        self._lease_seconds = float(settings.timeout) + _LEASE_SPARE_SECONDS
        self._hosts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="callbacks", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self, within_seconds: float) -> None:
        """Take no more, and wait for what is being sent; what is not over in time is sent again by others."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(within_seconds)

    def _work(self) -> None:
        self._secrets = [secret_of(text) for text in self._settings.secrets]
        while not self._stopping.is_set():
            try:
                asyncio.run(self._deliver())
            except Exception:
                log.exception("the delivery of callbacks failed, and begins again")
                self._hosts.clear()
                self._stopping.wait(_DOWN_SECONDS)

    async def _deliver(self) -> None:
        self._client = self._store.connect_async()
        down = False
        try:
            while not self._stopping.is_set():
                try:
                    found = await self._take()
                    down = False
                except StoreDown as error:
                    if not down:
                        log.warning("the store does not answer", task="callbacks", reason=str(error))
                    down, found = True, []
                    await asyncio.sleep(_DOWN_SECONDS)
                for message in found:
                    self._begin(message)
                await self._pause(found)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=float(self._settings.timeout))
        finally:
            await self._client.aclose()

    async def _take(self) -> list[Message]:
        free = _MOST - len(self._tasks)
        return await ado(self._client, take(self._ledger, free, self._lease_seconds, self._hosts)) if free else []

    async def _pause(self, found: Sequence[Message]) -> None:
        """Until one that is being sent is over, and makes room for the next of its host, or it is time to look."""
        await asyncio.sleep(_LEAST_SECONDS)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        elif not found:
            await asyncio.sleep(_LOOK_SECONDS)

    def _begin(self, message: Message) -> None:
        host = urlsplit(message.url).netloc.lower()
        self._hosts[host] += 1
        task = asyncio.get_running_loop().create_task(self._handle(message))
        self._tasks.add(task)
        task.add_done_callback(partial(self._end, host))

    def _end(self, host: str, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]

    async def _handle(self, message: Message) -> None:
        told = await self._try(message)
        if told.verdict == "dead":
            log.error(
                "a callback is given up", run_id=message.run_id, function=message.function, tries=message.tries + 1,
                reason=told.error,
            )  # fmt: skip
        try:
            await ado(self._client, tell(self._ledger, [told]))
        except StoreDown as error:  # its lease runs out, and it is sent again
            log.warning("what came of a callback cannot be written", run_id=message.run_id, reason=str(error))

    async def _try(self, message: Message) -> Told:
        from runtime.outgoing.sender import Sent  # noqa: PLC0415 - see above

        try:
            sent = await self._send(message)
        except Exception as error:  # a fault of ours, which shall not be met again at once, for ever
            log.exception("a callback cannot be sent", run_id=message.run_id)
            sent = Sent(error=f"{type(error).__name__}: {error}")
        return judge(message, sent, self._settings, random.random)

    async def _send(self, message: Message) -> "Sent":
        from runtime.outgoing.sender import Sender, Sent  # noqa: PLC0415 - see above

        try:
            check_host(check_url(message.url), self._settings)  # the settings may have changed since it was accepted
        except Refused as refused:
            return Sent(error=str(refused), refused=True)
        if not self._secrets:  # that is put right some time
            return Sent(error="[callbacks] secrets names none to sign it with")
        if self._sender is None:
            self._sender = Sender()
        return await self._sender.send(
            message.url,
            body_of(message),
            secrets=self._secrets,
            message_id=message.id,
            timestamp=int(time.time()),
            private=self._settings.allow_private,
            timeout_seconds=float(self._settings.timeout),
        )
