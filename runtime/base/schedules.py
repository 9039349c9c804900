"""[schedule] and [schedules.ID] of functions.toml: what holds for every schedule, and those that no code declares.

Records alone; settings reads them. What a rule means, and whether there is such a function, is for the loader to say.
"""

import re
from typing import Annotated, Any, Literal, Self

import msgspec
from typing_extensions import override

from runtime.base.durations import Duration, Seconds, parse_duration

SCHEDULE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
"""What the id of a schedule may be that its author chooses."""

Missed = Literal["skip", "latest", "all"]

_OVERLAPS = ("skip", "queue", "allow")
_OF_THE_MACHINE = ("localtime", "posixrules", "Factory")
"""In the zone database, and not the same everywhere."""


class TimeZone(str):
    """An IANA time zone."""

    __slots__ = ()

    @classmethod
    def parse(cls, name: str) -> Self:
        """The zone of that name; ValueError if there is none."""
        from zoneinfo import ZoneInfo  # noqa: PLC0415 - a parent needs it only where the settings name a zone

        try:
            ZoneInfo("" if name in _OF_THE_MACHINE else name)
        except (OSError, ValueError, TypeError, KeyError):  # ZoneInfoNotFoundError is a KeyError
            raise ValueError(f'unknown time zone {name!r}; write an IANA name, "Europe/Paris" for instance') from None
        return cls(name)


class Overlap(str):
    """What becomes of a tick whose schedule's earlier runs are not finished: a word, or how many may be open."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: str | int) -> Self:
        """ValueError unless it is one of the words, or a whole number of at least 1."""
        text = str(given)
        number = not isinstance(given, bool) and text.isdecimal() and text.isascii() and int(text) >= 1
        if text not in _OVERLAPS and not number:
            raise ValueError(f'{given!r}: write "skip", "queue", "allow" or a number of at least 1')
        return cls(text)

    @property
    def value(self) -> Any:
        """As a trigger has it: "skip", "queue", "allow" or an int."""
        return str(self) if self in _OVERLAPS else int(self)


class Jitter(Seconds):
    """A duration that may be nothing."""

    @classmethod
    @override
    def parse(cls, text: Duration) -> Self:
        """See parse_duration; 0 is one, too."""
        return cls(0.0 if str(text).strip() in ("0", "0s", "0.0") else parse_duration(text))

    @override
    def __str__(self) -> str:
        return super().__str__() if self else "0s"


class ScheduleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[schedule]: what holds for every schedule that does not say otherwise, and which deployment this is."""

    timezone: TimeZone = TimeZone("UTC")
    missed: Missed = "latest"
    overlap: Overlap = Overlap("skip")
    jitter: Jitter = Jitter(0)
    window: Seconds = Seconds(3600)
    deployment: Annotated[int, msgspec.Meta(ge=0)] = 0


class ScheduleTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[schedules.ID]: a schedule of a function, by one of cron, interval and at. None: as [schedule] says."""

    function: str
    cron: str | None = None
    interval: str | int | float | None = None
    at: Any = None
    tz: str | None = None
    payload: dict[str, Any] = {}
    missed: Missed | None = None
    overlap: Overlap | None = None
    jitter: Jitter | None = None
    window: Seconds | None = None
    timeout: Seconds | None = None
