"""The ledger's schedules: register, watch, fire, change, read; each one short script.

Builds Calls, as Ledger does. Who fires and what is lasting: scripts/schedules.lua.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from struct import Struct
from typing import Any

import msgspec

from runtime.declare.timing.calendar import Timing
from runtime.ledger.calls import Argument, Call
from runtime.ledger.ledger import Ledger
from runtime.ledger.schedules.definitions import tick_id
from runtime.ledger.schedules.records import Definition, Entry, Fired, Firing, Override, Registered, Skip, Watched
from runtime.ledger.views import WorkerView, read_workers

_MOST: dict[str, int | str] = {"skip": 1, "queue": 1, "allow": ""}

_numbers = Struct(">8d")
"""Of a state, before its rule: see scripts/states.lua."""

_Shared = tuple[str | int, ...]
_MOST_SHARED = 20_000

_definition = msgspec.json.Decoder(Definition)
_override = msgspec.json.Decoder(Override)


class Book:
    """The schedules of a namespace."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._shared: dict[str, tuple[Definition, _Shared]] = {}

    # --- for schedulers ---

    def register(
        self, scheduler: str, digest: str, deployment: int, info: bytes = b"{}", *, partial: bool = False
    ) -> Call[Registered]:
        """A scheduler lives, with these definitions. deployment: 0 to be numbered by the store.

        It counts as alive for 10 s. partial: some of its files do not load; it fires only if no whole one lives.
        """
        return self._call("register", (scheduler, digest, deployment, info, int(partial)), _read_registered)

    def upload(self, digest: str, definitions: Sequence[Definition], *, complete: bool, before: int = 0) -> Call[None]:
        """Give the store definitions, at most 500 a call; complete: these are the last of the set.

        before: how many were given before these. Where the store has lost some, the set is missing still.
        """
        arguments: list[Argument] = [digest, before + len(definitions) if complete else ""]
        for one in definitions:
            arguments += (one.id, _rule(one.timing), msgspec.json.encode(one))
        return self._call("upload", arguments, _read_nothing)

    def watch(self, scheduler: str, digest: str, seen: int) -> Call[Watched]:
        """Stay alive, and hear what changed after version `seen`."""
        return self._call("watch", (scheduler, digest, seen), _read_watched)

    def fire(self, scheduler: str, digest: str, firings: Sequence[Firing]) -> Call[list[Fired] | None]:
        """Have ticks become runs, at most 200 firings a call, and some hundred ticks: it holds up the store meanwhile.

        None: this scheduler is not (any more) one that fires.
        """
        return self._call("fire", (scheduler, digest, self._told(firings)), partial(_fired, firings))

    def leave(self, scheduler: str) -> Call[None]:
        """A scheduler ends in good order."""
        return self._call("leave", (scheduler,), _read_nothing)

    # --- for all ---

    def entries(self, after: str = "", limit: int = 1000) -> Call[list[Entry]]:
        """Schedules by id, those after that one: of the newest deployment, and added ones."""
        return self._call("entries", (after, limit), lambda found: [_entry(one) for one in found])

    def show(self, ids: Sequence[str]) -> Call[list[Entry | None]]:
        """These schedules, with their skips; None for one that is not there."""
        return self._call("show", ids, lambda found: [one and _entry(*one) for one in found])

    def marks(self, ids: Sequence[str]) -> Call[list[tuple[Override, bool]]]:
        """What was changed of schedules, also of those not there yet: overrides, and whether they are paused."""
        return self._call("marks", ids, lambda found: [(_changed(one[0]), bool(one[1])) for one in found])

    def schedulers(self) -> Call[list[WorkerView]]:
        """The schedulers that live, as far as their watches tell."""
        return self._call("schedulers", (), read_workers)

    # --- changes at run time ---

    def add(self, definition: Definition, *, replace: bool = False) -> Call[str]:
        """Add a schedule: "added", "replaced", "known" (there is one, not to be replaced), "declared"."""
        text = msgspec.json.encode(definition)
        return self._call("add", (definition.id, _rule(definition.timing), text, int(replace)), _read_word)

    def remove(self, schedule: str) -> Call[str]:
        """Take an added one away, with what is known of it: "removed", "unknown", "declared"."""
        return self._call("remove", (schedule,), _read_word)

    def pause(self, schedule: str, *, paused: bool) -> Call[bool]:
        """Fire no more; or again: ticks that passed meanwhile are not made up for. Whether that is a change."""
        return self._call("pause", (schedule, int(paused)), bool)

    def override(self, schedule: str, override: Override) -> Call[None]:
        """Change a schedule from now on: in place of all earlier overrides. An empty one: as declared again."""
        rule = "" if override.timing is None else _rule(override.timing)
        text = b"" if override == Override() else msgspec.json.encode(override)
        return self._call("override", (schedule, rule, text), _read_nothing)

    def run_now(self, definition: Definition, run_id: str) -> Call[str]:
        """One run at once, whatever is paused or open: its id; trigger "manual", planned now."""
        said = definition.id, run_id, _timeout(definition), *_run_of(definition)
        return self._call("run", said, _read_word)

    def backfill(self, definition: Definition, planned: Sequence[int]) -> Call[tuple[int, int]]:
        """Runs for past ticks, at most 100 a call: how many are new, how many there were (that tick has a run).

        Trigger "backfill", priority 3; at most overlap's number at once (1 for "skip" and "queue"), apart from live
        ticks.
        """
        most = definition.overlap if isinstance(definition.overlap, int) else _MOST[definition.overlap]
        said = definition.id, _head(definition.id), _timeout(definition), *_run_of(definition), most, *planned
        return self._call("backfill", said, lambda found: (found[0], found[1]))

    def _told(self, firings: Sequence[Firing]) -> bytes:
        """Firings as the script takes them, in strings: it knows no other bytes. What is alike is said once."""
        common: dict[_Shared, int] = {}
        told: list[list[str | int]] = []
        group: list[str | int] = []
        alike: object = None
        planned = ""
        for firing in firings:
            one = firing.definition
            which = common.setdefault(self._shared_with(one), len(common) + 1)
            if not firing.is_plain:
                told.append([which, *_fields_of(firing)])
                alike = None
                continue
            if alike != (alike := (which, firing.last_ms, firing.until_ms)):
                planned = str(firing.until_ms)
                group = [-which, firing.last_ms, planned]
                told.append(group)
            group += (one.id, _head(one.id) + planned)
        return msgspec.msgpack.encode((list(common), told))

    def _shared_with(self, definition: Definition) -> _Shared:
        known = self._shared.get(definition.id)
        if known is None or known[0] is not definition:
            if len(self._shared) >= _MOST_SHARED:
                self._shared.clear()
            known = self._shared[definition.id] = definition, _shared_of(definition)
        return known[1]

    def _call(self, name: str, arguments: Iterable[Argument], read: Any) -> Call[Any]:
        return self._ledger.call(f"schedules/{name}", arguments, read)


@lru_cache(maxsize=20_000)
def _rule(timing: Timing) -> str:
    """What tells one rule from another."""
    return msgspec.json.encode(timing).decode()


@lru_cache(maxsize=20_000)
def _head(schedule: str) -> str:
    """What the ids of a schedule's runs begin with; the ms follow."""
    return tick_id(schedule, 0)[:-1]


def _fields_of(firing: Firing) -> Iterator[str | int]:
    """Of one that is not plain."""
    name = firing.definition.id
    yield from (name, _head(name), firing.last_ms, firing.until_ms, firing.missed_after)
    for planned, jitter, missed in zip(firing.planned, firing.jitters_ms, firing.missed_before, strict=True):
        yield from (str(planned), jitter, missed)


def _timeout(definition: Definition) -> str:
    """Of a TickNote."""
    return f',"timeout":{definition.timeout_ms}' if definition.timeout_ms else ""


def _shared_of(definition: Definition) -> _Shared:
    """What the script wants to know of a definition, and many may have in common."""
    return (
        _rule(definition.timing), definition.function, definition.queue, bytes(definition.payload).decode(),
        definition.timing.kind, definition.max_age_ms or "", definition.overlap, _timeout(definition),
    )  # fmt: skip


def _run_of(definition: Definition) -> tuple[Argument, ...]:
    return definition.function, definition.queue, bytes(definition.payload), definition.max_age_ms or ""


def _read_nothing(_: Any) -> None:
    return None


def _read_word(found: bytes) -> str:
    return found.decode()


def _read_registered(found: Sequence[int]) -> Registered:
    missing, firing, number = found
    return Registered(bool(missing), bool(firing), number)


def _read_watched(found: Sequence[Any]) -> Watched:
    now, known, firing, version, changed = found
    ids = None if changed is None else tuple(one.decode() for one in changed)
    return Watched(now, bool(known), bool(firing), version, ids)


def _fired(firings: Sequence[Firing], found: Sequence[Any] | None) -> list[Fired] | None:
    """What became of each. The script tells of those that were not simply fired."""
    if found is None:
        return None
    fired = [Fired("fired", firing.until_ms, len(firing.planned)) for firing in firings]
    for place, verdict, last, runs in zip(found[::4], found[1::4], found[2::4], found[3::4], strict=True):
        fired[place - 1] = Fired(verdict.decode(), int(last), int(runs))
    return fired


def _entry(found: Sequence[Any], skips: Sequence[bytes] = ()) -> Entry:
    told, changed, state, open_, held = found
    numbers = map(int, _numbers.unpack_from(state))
    last_ms, paused, _, success_ms, runs, missed, overlapped, last_run_ms = numbers
    definition = _definition.decode(_text(told))
    return Entry(
        definition=definition,
        override=_changed(changed),
        paused=paused > 0,
        last_ms=last_ms,
        open=open_,
        waiting=held,
        runs=runs,
        missed=missed,
        overlapped=overlapped,
        last_run=tick_id(definition.id, last_run_ms) if last_run_ms else "",
        success_ms=success_ms,
        skips=tuple(map(_skip, skips)),
    )


def _changed(told: bytes | None) -> Override:
    return _override.decode(_text(told)) if told else Override()


def _text(told: bytes) -> bytes:
    """The JSON of what the store keeps behind its rule."""
    return told.partition(b"\n")[2]


def _skip(told: bytes) -> Skip:
    planned, count, why = told.decode().split(":")
    return Skip(int(planned), int(count), "missed" if why == "missed" else "overlap")
