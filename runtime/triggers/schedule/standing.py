"""Where a scheduler stands: whether the store knows it, whether it is one that fires, and what it is to fire.

Held by the scheduler and by the harness, which have it `look` and `fire`. Whatever may have changed in the store is
read again from there.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from runtime.base.logs import get_logger
from runtime.declare.timing.calendar import Timing, calendar_of
from runtime.ledger.desk import Desk
from runtime.ledger.schedules.book import Book
from runtime.ledger.schedules.definitions import digest_of
from runtime.ledger.schedules.records import Definition, Entry, Fired, Firing, Watched
from runtime.triggers.schedule.clock import Clock
from runtime.triggers.schedule.timetable import Timetable

log = get_logger(__name__)

_YIELD_SECONDS = 5.0
"""As long as an answer of the store may take."""
_MOST_UPLOADED = 500
_MOST_READ = 1000
_MOST_SHOWN = 200
_MOST_FIRED = 200
_MOST_TICKS = 500
"""Runs that one call makes, more or less: it holds up all others of the store meanwhile."""


class Standing:
    """name: of the scheduler; no other has it. deployment: what the settings say; 0 to have the store number it.

    is_partial: some of its files do not load. info: JSON, for people. on_rules: told which rules there are, whenever
    that may have changed. is_known: the store knows it. fires: it may try. number: of its deployment. clock: the
    store's. table: what is due when.
    """

    def __init__(
        self,
        desk: Desk,
        on_rules: Callable[[Iterable[Timing]], object],
        *,
        name: str,
        deployment: int = 0,
        info: bytes = b"{}",
    ) -> None:
        self.fires = False
        self.clock = Clock()
        self.table = Timetable()
        self.number = 0
        self.is_known = False
        self.is_partial = False
        self._name = name
        self._digest = ""
        self._deployment = deployment
        self._info = info
        self._desk = desk
        self._book = Book(desk.ledger)
        self._on_rules = on_rules
        self._own: dict[str, Definition] = {}
        self._seen = 0
        self._entries: dict[str, Entry] | None = None
        """Those that are fired; None if all are to be read."""
        self._doubtful: set[str] = set()
        self._told: set[Timing] = set()

    def adopt(self, definitions: Sequence[Definition], *, is_partial: bool = False) -> None:
        """Bring these definitions from now on."""
        self.is_partial = is_partial
        self._own = {definition.id: definition for definition in definitions}
        digest = digest_of(definitions)
        if digest != self._digest:
            self._digest, self.number = digest, 0
        self.stand_down()

    @property
    def count(self) -> int:
        """How many schedules it fires."""
        return len(self._entries or ())

    def stand_down(self) -> None:
        """Fire nothing until the store has been asked who does."""
        self.fires = self.is_known = False

    async def look(self) -> None:
        """Tell the store that we live, and take up what has changed there. StoreDown."""
        told = await self._watch()
        if not told.known:  # it was stopped for long, or the store was, or has lost what it knew
            stood_by = self.is_known and not self.fires
            self.stand_down()
            if stood_by:  # whoever fired comes back first; else older schedules would be in force in between
                await asyncio.sleep(_YIELD_SECONDS)
            told = await self._watch()
        if not told.firing:
            self._entries = None
        elif self._entries is None or told.changed is None:
            await self._read_all()
        else:
            await self._read(self._doubtful.union(told.changed))
        self._seen, self.fires = told.version, told.firing

    async def _watch(self) -> Watched:
        if not self.is_known:
            await self._register()
        began = self.clock.begin()
        told = await self._desk.ask(self._book.watch(self._name, self._digest, self._seen))
        self.clock.measure(began, told.now_ms)
        return told

    async def fire(self, firings: Sequence[Firing]) -> list[Fired]:
        """Fire some of what is due, at most one of `parts_of`; [] if that is not ours any more. StoreDown."""
        found = await self._desk.ask(self._book.fire(self._name, self._digest, firings))
        if found is None:
            self.stand_down()
            return []
        for firing, fired in zip(firings, found, strict=True):
            self.table.note(firing, fired)
            if fired.verdict in ("paused", "gone"):
                self._doubtful.add(firing.definition.id)
        return found

    async def leave(self) -> None:
        """Tell the store that we end. StoreDown."""
        await self._desk.ask(self._book.leave(self._name))

    # --- what the store is told ---

    async def _register(self) -> None:
        """Be known, with all definitions."""
        digest = self._digest
        # The number it had: a store that has forgotten it would take what comes back for the newest.
        deployment = self._deployment or self.number
        call = self._book.register(self._name, digest, deployment, self._info, partial=self.is_partial)
        found = await self._desk.ask(call)
        if found.missing:
            await self._upload(digest)
            found = await self._desk.ask(call)
        self.number = found.number
        self._entries = None
        self.is_known = self._digest == digest and not found.missing  # else: next time

    async def _upload(self, digest: str) -> None:
        definitions = list(self._own.values())
        for at in range(0, max(1, len(definitions)), _MOST_UPLOADED):
            part = definitions[at : at + _MOST_UPLOADED]
            complete = at + _MOST_UPLOADED >= len(definitions)
            await self._desk.ask(self._book.upload(digest, part, complete=complete, before=at))

    # --- what the store tells ---

    async def _read_all(self) -> None:
        entries: dict[str, Entry] = {}
        after: str | None = ""
        while after is not None:
            page = await self._desk.ask(self._book.entries(after, _MOST_READ))
            entries.update((entry.definition.id, entry) for entry in page)
            after = page[-1].definition.id if len(page) == _MOST_READ else None
        self._doubtful.clear()
        self._entries = {name: ours for name, one in entries.items() if (ours := self._ours(one)) is not None}
        self.table = Timetable()
        self.table.adopt(self._entries.values())
        self._tell_rules()

    async def _read(self, names: Iterable[str]) -> None:
        """Read these again."""
        wanted = sorted(names)
        if not wanted or self._entries is None:
            return
        gone = []
        for at in range(0, len(wanted), _MOST_SHOWN):
            part = wanted[at : at + _MOST_SHOWN]
            found = await self._desk.ask(self._book.show(part))
            for name, one in zip(part, found, strict=True):
                ours = None if one is None else self._ours(one)
                if ours is None:
                    gone.append(name)
                    self._entries.pop(name, None)
                else:
                    self._entries[name] = ours
        self._doubtful.difference_update(wanted)
        self.table.drop(gone)
        self.table.adopt(self._entries[name] for name in wanted if name in self._entries)
        self._tell_rules()

    def _ours(self, entry: Entry) -> Entry | None:
        """It, as it is to be fired by us: another deployment's definition may have been read in between. None: not."""
        if entry.definition.source != "added":
            own = self._own.get(entry.definition.id)
            if own is None:
                return None
            entry = msgspec.structs.replace(entry, definition=own)
        timing = entry.effective.timing
        try:
            calendar_of(timing)
        except Exception:  # another machine may know a time zone that this one does not
            if timing not in self._told:
                self._told.add(timing)
                log.exception("a schedule cannot be fired from here", schedule=entry.definition.id, rule=str(timing))
            return None
        return entry

    def _tell_rules(self) -> None:
        assert self._entries is not None  # noqa: S101 - they were just read
        self._on_rules(one.effective.timing for one in self._entries.values() if not one.paused)


def parts_of(firings: Iterable[Firing]) -> Iterator[list[Firing]]:
    """As many as fit into a call, in their order."""
    part: list[Firing] = []
    ticks = 0
    for firing in firings:
        if part and (len(part) == _MOST_FIRED or ticks + len(firing.planned) > _MOST_TICKS):
            yield part
            part, ticks = [], 0
        part.append(firing)
        ticks += len(firing.planned)
    if part:
        yield part
