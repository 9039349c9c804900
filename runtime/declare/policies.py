"""What holds for a function under every trigger: `@fn(...)` and the records it takes.

Pure data, checked when it is written. Read by the loader; kept by the guards and the ledger.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import msgspec
from typing_extensions import override

from runtime.base.durations import Duration, Rate, parse_duration, parse_rate, parse_size
from runtime.base.errors import DeclarationError, FnrunError

T = TypeVar("T")

_NAME = re.compile(r"(?!FNRUN_)[A-Za-z_][A-Za-z0-9_]*")


class RetryAfter(FnrunError):  # noqa: N818 - a verdict, as authors write it
    """Raised by a handler: this attempt failed, try again after `delay` whatever the policy's wait says."""

    def __init__(self, delay: Duration, message: str = "") -> None:
        self.delay_seconds = parse_duration(delay)
        super().__init__(message or f"retry after {self.delay_seconds:g} s")


class GiveUp(FnrunError):  # noqa: N818 - a verdict, as authors write it
    """Raised by a handler: this run failed for good, do not try again."""


class Retry:
    """When a failed attempt of a durable run is tried again.

    attempts: how many in all, the first included. wait: "first..cap", doubled from one to the other.
    on: only for these errors (all where empty). giveup: never for these. jitter: draw each wait from [0, wait].
    """

    __slots__ = ("attempts", "cap_seconds", "first_seconds", "giveup", "jitter", "on")

    def __init__(
        self,
        attempts: int = 3,
        *,
        wait: str = "1s..5m",
        on: tuple[type[BaseException], ...] = (),
        giveup: tuple[type[BaseException], ...] = (),
        jitter: bool = True,
    ) -> None:
        self.attempts = count("Retry", "attempts", attempts)
        self.first_seconds, self.cap_seconds = _parse_wait(wait)
        self.on = _error_types("on", on)
        self.giveup = _error_types("giveup", giveup)
        self.jitter = jitter

    @override
    def __repr__(self) -> str:
        return f"Retry({self.attempts}, wait={self.first_seconds:g}s..{self.cap_seconds:g}s)"


class Breaker:
    """Stop calling what keeps failing: open after `failures` in a row, try one call again after `reset`."""

    __slots__ = ("failures", "reset_seconds")

    def __init__(self, failures: int = 5, *, reset: Duration = "30s") -> None:
        self.failures = count("Breaker", "failures", failures)
        self.reset_seconds = seconds("Breaker", "reset", reset)

    @override
    def __repr__(self) -> str:
        return f"Breaker({self.failures}, reset={self.reset_seconds:g}s)"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What `@fn` said. None or the default: not said."""

    timeout_seconds: float | None = None
    retries: Retry | None = None
    concurrency: int | None = None
    key: str | Callable[..., Any] | None = None
    rate: Rate | None = None
    idempotent: Callable[..., Any] | None = None
    isolation: Literal["process"] | None = None
    memory_bytes: int | None = None
    breaker: Breaker | None = None
    fallback: Any = msgspec.UNSET
    on_failure: str | Callable[..., Any] | None = None
    max_age_seconds: float | None = None
    env: Mapping[str, str] = {}
    secrets: tuple[str, ...] = ()

    @property
    def has_fallback(self) -> bool:
        """Whether there is one: None is one, too."""
        return self.fallback is not msgspec.UNSET


_READERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "timeout": ("timeout_seconds", parse_duration),
    "max_age": ("max_age_seconds", parse_duration),
    "memory": ("memory_bytes", parse_size),
    "rate": ("rate", parse_rate),
}
"""Options that are written as text: the record's field, and what reads the text."""


_KINDS: tuple[tuple[str, Any, str], ...] = (
    ("retries", Retry, "retries=Retry(...)"),
    ("breaker", Breaker, "breaker=Breaker(...)"),
    ("key", str | Callable, "a parameter's name or a function"),
    ("on_failure", str | Callable, "a function or its name"),
    ("idempotent", Callable, "a function"),
)
"""Options that are objects: their types, and what to write."""


def policy_of(options: dict[str, Any]) -> Policy:
    """The checked record of `@fn`'s options. DeclarationError names the option and the fix."""
    values: dict[str, Any] = {}
    for name, value in options.items():
        if value is not None or name == "fallback":  # None is a value to fall back to
            field, read = _READERS.get(name, (name, lambda same: same))
            values[field] = checked("fn", name, read, value)
    if "concurrency" in values:
        count("@fn", "concurrency", values["concurrency"])
    _check_names(values)
    if isinstance(values.get("retries"), int):
        values["retries"] = Retry(values["retries"])
    for name, kinds, says in _KINDS:
        if not isinstance(values.get(name), kinds | None):
            raise DeclarationError(f"@fn({name}={values[name]!r}): write {says}")
    _check_isolation(values.get("isolation"), values.get("memory_bytes"))
    return Policy(**values)


def _check_names(values: dict[str, Any]) -> None:
    """Check `env=` and `secrets=`, and make the latter a tuple."""
    env, secrets = values.get("env", {}), values.get("secrets", ())
    if not isinstance(env, Mapping) or not all(isinstance(part, str) for pair in env.items() for part in pair):
        raise DeclarationError('@fn(env=...): variables by name, both text: env={"CURRENCY": "EUR"}')
    if not isinstance(secrets, list | tuple) or not all(isinstance(name, str) for name in secrets):
        raise DeclarationError('@fn(secrets=...): the names of secrets, never their values: secrets=["STRIPE_KEY"]')
    for name in secrets:
        if not _NAME.fullmatch(name):
            raise DeclarationError(
                "@fn(secrets=...): one of these is no name of a secret (letters, digits and _ alone, and FNRUN_... are "
                "settings); write names, never values"
            )
    if "secrets" in values:
        values["secrets"] = tuple(dict.fromkeys(secrets))


def _check_isolation(isolation: str | None, memory_bytes: int | None) -> None:
    if isolation not in (None, "process"):
        raise DeclarationError(f'@fn(isolation={isolation!r}): the one kind is "process"')
    if memory_bytes is not None and isolation is None:
        raise DeclarationError('@fn(memory=...) needs isolation="process": a thread cannot be held to a limit')


def count(where: str, option: str, value: Any) -> int:
    """A whole number of at least 1, or a DeclarationError that names the option."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise DeclarationError(f"{where}({option}={value!r}): a whole number, at least 1")
    return value


def seconds(where: str, option: str, value: Duration) -> float:
    """parse_duration, with a DeclarationError that names the decorator and its option."""
    return checked(where, option, parse_duration, value)


def checked(where: str, option: str, parse: Callable[[Any], T], value: Any) -> T:
    """`parse(value)`, with a DeclarationError that names the decorator, or the record, and its option."""
    try:
        return parse(value)
    except (ValueError, TypeError, AttributeError) as error:
        at = "@" if where[0].islower() else ""  # Breaker is a record, no decorator
        raise DeclarationError(f"{at}{where}({option}={value!r}): {error}") from None


def _parse_wait(wait: str) -> tuple[float, float]:
    first, dots, cap = str(wait).partition("..")
    low = seconds("fn", "retries=Retry(wait", first)
    high = seconds("fn", "retries=Retry(wait", cap) if dots else low
    if high < low:
        raise DeclarationError(f'Retry(wait="{wait}"): the cap is below the first wait; write "1s..5m"')
    return low, high


def _error_types(option: str, types: Any) -> tuple[type[BaseException], ...]:
    found = types if isinstance(types, tuple) else (types,)
    for one in found:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise DeclarationError(f"Retry({option}={types!r}): a tuple of exception classes, (OSError,) for instance")
    return found
