"""One process of all looks at the rules, and tells whoever is to be told; when it dies, another one does.

Started by each role, whose loop it does not use: it has a thread of its own, so that a handler that blocks a loop is
told of, too. What it has seen and what is to be sent is in the store, and written under a token that counts up: so a
process that was frozen changes nothing, and nothing is forgotten or told twice by whoever takes over.
"""

import asyncio
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from runtime.alerts.book import Book, Look, Message, Parcel
from runtime.alerts.delivery import Delivery, Told
from runtime.alerts.judging import UNSEEN_SECONDS, RuleState, judge, tell
from runtime.alerts.messages import message_of, text_of
from runtime.alerts.rules import Facts, Rule, first_minute, matching, measure, rules_of
from runtime.base.errors import StoreDown
from runtime.base.ids import new_run_id
from runtime.base.logs import get_logger
from runtime.base.tables.alerts import MEASURES
from runtime.ledger.desk import Desk
from runtime.ledger.minutes import Row, read, spans
from runtime.outgoing.sender import Sender

log = get_logger(__name__)

LEASE_SECONDS = 6.0
_HOLD_SECONDS = 2.0
"""With the lease: whoever is killed is followed within 8 s."""
_LOOK_SECONDS = 5.0
_LONGEST_LOOK_SECONDS = UNSEEN_SECONDS / 2
_LEAVE_SECONDS = 2.0
_SHARE = 20
"""Where there is much to look at, looks are further apart, so that they take a twentieth of a processor."""
_AT_ONCE = 50
"""Functions that the store is asked for in one call: it does nothing else meanwhile."""
_MINUTE = 60
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 600.0
_MOST_ASKED_SECONDS = 3600.0
"""The longest pause that a receiver may ask for."""
_DAY_SECONDS = 86_400.0
"""What could not be told for so long is given up."""
_ALL = 3
"""Messages that one look can have for a rule: what fires, what still does, what is over."""
_NOT_BY_THE_MINUTE = ("dead_letters", "lost_workers")


class Watch:
    """A process's part in it. rules: what it goes by while it is the one. delay_seconds: others may be first."""

    def __init__(self, desk: Desk, root: Path, *, delay_seconds: float = 0.0) -> None:
        self._desk = desk
        self._root = root
        self._delay_seconds = delay_seconds
        self.rules = rules_of(desk.settings)
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._book = Book(desk.ledger)
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._work, name="alerts", daemon=True)
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._was_down = False
        self._look_at = 0.0
        self._token = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Let another take over, at once."""
        self._stopping.set()
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None:
            with suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(wake.set)
        self._thread.join(_LEAVE_SECONDS)

    def _work(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._keep())
        except Exception:
            log.exception("alerts are looked at no more by this process")

    async def _keep(self) -> None:
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        delivery = Delivery(self._desk, self._root, self._desk.settings.alerting, Sender())
        await self._wait(self._delay_seconds)
        await self._guarded(self._hold())
        # Beside the looks: one that takes long, or a slow store, shall not cost the lease.
        holding = asyncio.create_task(self._hold_on())
        try:
            while not self._stopping.is_set():
                if self._token:
                    await self._guarded(self._step(delivery))
                await self._wait(_HOLD_SECONDS)
        finally:
            for task in self._sending.values():
                task.cancel()
            await holding  # what it has under way would else come after the next call, and hold on
            with suppress(StoreDown):
                await self._desk.ask(self._book.hold(self.holder, 0.0))

    async def _hold_on(self) -> None:
        while not self._stopping.is_set():
            await self._wait(_HOLD_SECONDS)
            await self._guarded(self._hold())

    async def _hold(self) -> None:
        if self._stopping.is_set():
            return
        self._token = await self._desk.ask(self._book.hold(self.holder, LEASE_SECONDS))

    async def _wait(self, seconds: float) -> None:
        assert self._wake is not None  # noqa: S101 - made where this loop begins
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _guarded(self, step: Coroutine[Any, Any, None]) -> None:
        try:
            await step
            self._was_down = False
        except StoreDown as error:
            if not self._was_down:
                log.warning("the store does not answer; alerts wait", reason=str(error))
            self._was_down = True
        except Exception:
            log.exception("a look at the alerts failed")

    async def _step(self, delivery: Delivery) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._look_at:
            before = time.thread_time()
            await look(self._desk, self._book, self.rules, self._token)
            pause = (time.thread_time() - before) * _SHARE
            self._look_at = now + min(max(_LOOK_SECONDS, pause), _LONGEST_LOOK_SECONDS)
        for parcel in await self._desk.ask(self._book.due(self._sending)):
            task = asyncio.create_task(self._guarded(self._send(delivery, parcel)))
            self._sending[parcel.lane] = task
            task.add_done_callback(partial(self._forget, parcel.lane))

    def _forget(self, lane: str, _: asyncio.Task[None]) -> None:
        self._sending.pop(lane, None)

    async def _send(self, delivery: Delivery, parcel: Parcel) -> None:
        """Tell one receiver, and note what came of it."""
        rule, now = self.rules.get(parcel.rule), self._desk.ledger.now()
        if rule is None:
            told = Told("there is no such rule any more", final=True)
        else:
            told = await delivery.tell(parcel, rule.channels, now)
        said = {"alert": parcel.rule, "message": parcel.message_id, "via": parcel.channel}
        if not told.error:
            await self._desk.ask(self._book.sent(parcel, "sent", now))
            log.info("an alert is told", **said)
        elif told.final or now - parcel.made > _DAY_SECONDS:
            await self._desk.ask(self._book.sent(parcel, "given up", now, told.error))
            log.error("an alert is not told, and given up", **said, reason=told.error)
        else:
            pause = next_pause(parcel.tries, told.pause_seconds)
            await self._desk.ask(self._book.sent(parcel, "again", now, told.error, pause))
            log.warning("an alert is not told yet", **said, reason=told.error, pause_seconds=pause)


def next_pause(tries: int, asked_seconds: float) -> float:
    """How long to wait before the next try. tries: that failed before this one. asked_seconds: by the receiver."""
    usual = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(tries, 20))
    return max(usual, min(asked_seconds, _MOST_ASKED_SECONDS))


async def look(
    desk: Desk, book: Book, rules: dict[str, Rule], token: int, new_id: Callable[[], str] = new_run_id
) -> bool:
    """Judge all rules by what there is now, and have told what is to be told. False: another looks meanwhile."""
    windows = sorted({rule.window_seconds for rule in rules.values() if rule.when.measure == "dead_letters"})
    minutes = [first_minute(desk.ledger.now(), rule.window_seconds) for rule in rules.values() if _by_the_minute(rule)]
    found = await desk.ask(book.look(windows, min(minutes, default=None)))
    facts = await _gather(desk, rules, found)
    states: dict[str, RuleState] = {}
    messages: list[Message] = []
    lines: list[tuple[str, str]] = []
    room = desk.settings.alerting.most_per_hour - found.told
    for name, rule in rules.items():
        judged = judge(rule, found.states.get(name, RuleState()), measure(rule, facts), facts.now, new_id)
        sends = bool(rule.channels.names)  # else it is in the log alone, and nothing is held back
        state, tellings = tell(rule, judged, facts.now, max(0, room) if sends else _ALL)
        for telling in tellings:
            room -= sends
            messages += [message_of(rule, telling, new_id(), facts.now, room=room)] if sends else []
            lines.append((name, text_of(rule, telling.event, telling.subjects)))
        if state.subjects:
            states[name] = state
    written = await desk.ask(book.commit(token, states, messages))
    for name, text in lines if written else ():
        log.warning(text, alert=name)
    return written


async def _gather(desk: Desk, rules: dict[str, Rule], found: Look) -> Facts:
    """The facts, with what was counted by the minute and the queues, where a rule asks for them."""
    facts = found.facts
    counted = [rule for rule in rules.values() if _by_the_minute(rule)]
    rows: list[Row] = []
    if counted:
        since = min(first_minute(facts.now, rule.window_seconds) for rule in counted)
        names = sorted({name for rule in counted for name in matching(rule, found.counted)})
        for first, last in spans(since, int(facts.now // _MINUTE)):
            for at in range(0, len(names), _AT_ONCE):
                some = await desk.ask(read(desk.ledger, first, last, names[at : at + _AT_ONCE]))
                rows += some
    asks_queues = any(rule.about == "queue" for rule in rules.values())
    queues = await desk.ask(desk.ledger.queues()) if asks_queues else []
    known = frozenset[str]() if desk.registry is None else frozenset(desk.registry().whole().functions)
    return msgspec.structs.replace(facts, rows=rows, queues=queues, functions=facts.functions | known)


def _by_the_minute(rule: Rule) -> bool:
    return MEASURES[rule.when.measure].windowed and rule.when.measure not in _NOT_BY_THE_MINUTE
