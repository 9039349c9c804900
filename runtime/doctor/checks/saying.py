"""How findings are made: one is well, or gives a warning or a problem with its fix. Called by the checks."""

from collections.abc import Iterable
from functools import partial

from runtime.doctor.facts import Finding, Level

_MOST_NAMED = 10


class Area:
    """Where the findings of a check belong."""

    def __init__(self, name: str) -> None:
        self._made = partial(Finding, area=name)

    def ok(self, about: str, text: str) -> Finding:
        """All is well."""
        return self._made(about=about, text=text)

    def bad(self, level: Level, about: str, text: str, fix: str) -> Finding:
        """Something is not."""
        return self._made(about=about, level=level, text=text, fix=fix)


def size(count: float) -> str:
    """Bytes, for people: "200 MB"."""
    unit, word = next(((unit, word) for unit, word in ((1e9, "GB"), (1e6, "MB")) if count >= unit), (1e3, "kB"))
    return f"{count / unit:.3g} {word}"


def names(found: Iterable[str]) -> str:
    """A list that does not get too long."""
    every = list(found)
    more = f", and {len(every) - _MOST_NAMED} more" if len(every) > _MOST_NAMED else ""
    return ", ".join(every[:_MOST_NAMED]) + more
