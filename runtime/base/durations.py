"""Read durations, sizes and rates as people write them.

Called by settings and by the decorators. Pure. One unit everywhere: seconds as float, sizes as bytes.
"""

import math
import re
from typing import Self

import msgspec
from typing_extensions import override

_LONGEST_SECONDS = 36_525 * 86_400.0
"""100 years: any date plus a duration is still a date."""

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|KB|MB|GB|KiB|MiB|GiB)?")
_SIZE_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_RATE = re.compile(r"(\d{1,9})/(s|m|h|d)(?:\s+burst\s+(\d{1,9}))?")

Duration = str | int | float
"""What an author may write: "30s", "1h30m", or a number of seconds."""


def parse_duration(text: Duration) -> float:
    """Seconds in "30s", "1h30m", "250ms", "2d" or a plain number. Above zero, at most 100 years, or ValueError."""
    if isinstance(text, bool):
        raise ValueError(_bad_duration(text))  # noqa: TRY004 - one error type for a value that cannot hold
    if isinstance(text, str) and _WHOLE.fullmatch(text.strip()):
        seconds = sum(float(n) * _UNIT_SECONDS[unit] for n, unit in _PART.findall(text))
    else:
        try:
            seconds = float(text)
        except (ValueError, TypeError, OverflowError):
            raise ValueError(_bad_duration(text)) from None
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(_bad_duration(text))
    if seconds > _LONGEST_SECONDS:
        raise ValueError(f"{text!r} is longer than 100 years")
    return seconds


def _bad_duration(text: object) -> str:
    return f'{text!r} is not a duration above zero; write "30s", "1h30m", "500ms" or a number of seconds'


def parse_size(text: str | int) -> int:
    """Bytes in "1MB" (10**6), "1MiB" (2**20), "16kB" or a plain number. Above zero, or ValueError."""
    match = _SIZE.fullmatch(str(text).strip()) if not isinstance(text, bool) else None
    size = float(match[1]) * _SIZE_BYTES[match[2] or "B"] if match else 0.0
    if not 1 <= size < math.inf:
        raise ValueError(f'{text!r} is not a size; write "1MB", "256MiB" or a number of bytes')
    return int(size)


class Rate(msgspec.Struct, frozen=True):
    """So many in so many seconds, evenly; burst: how many at once after a pause."""

    count: int
    seconds: float
    burst: int


def parse_rate(text: str) -> Rate:
    """What "100/m" or "100/m burst 10" says; without a burst all may come at once. ValueError if it is none."""
    match = _RATE.fullmatch(str(text).strip())
    if match is None or int(match[1]) == 0 or (match[3] is not None and int(match[3]) == 0):
        raise ValueError(f'{text!r} is not a rate; write "10/s", "100/m", "1000/h", "5/d" or "100/m burst 10"')
    return Rate(int(match[1]), _UNIT_SECONDS[match[2]], int(match[3] or match[1]))


class Seconds(float):
    """A duration in settings: read from "30s", shown as "30s"."""

    @classmethod
    def parse(cls, text: Duration) -> Self:
        """See parse_duration."""
        return cls(parse_duration(text))

    @override
    def __str__(self) -> str:
        for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
            if self >= size and self % size == 0:
                return f"{int(self // size)}{unit}"
        return f"{float(self)}s" if self >= 1 else f"{float(self) * 1000:g}ms"


class SecondsOrNever(Seconds):
    """A duration in settings that may be 0, for never."""

    @classmethod
    @override
    def parse(cls, text: Duration) -> Self:
        return cls(0.0) if str(text).strip() in ("0", "0.0", "0s") else super().parse(text)

    @override
    def __str__(self) -> str:
        return super().__str__() if self else "0"


class Size(int):
    """A size in settings: read from "1MB", shown as "1MB"."""

    @classmethod
    def parse(cls, text: str | int) -> Self:
        """See parse_size."""
        return cls(parse_size(text))

    @override
    def __str__(self) -> str:
        for unit in ("GB", "MB", "kB"):
            if self >= _SIZE_BYTES[unit] and self % _SIZE_BYTES[unit] == 0:
                return f"{self // _SIZE_BYTES[unit]}{unit}"
        return f"{int(self)}B"
