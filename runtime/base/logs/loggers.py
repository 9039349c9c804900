"""Loggers for all modules: structlog's, loaded with the first line.

Where nobody has configured structlog (a script that imports `runtime`), lines go where the script's own `logging` sends
them: structlog's defaults would print each, tracebacks with all local variables, to stdout.
"""

import logging
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    import structlog
    from structlog.stdlib import BoundLogger

    Logger = BoundLogger
else:
    Logger = Any

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]


def get_logger(*names: str) -> Logger:
    """A logger, whose library is loaded with its first line: a parent starts its children before that."""
    return cast("Logger", _Later(*names))


class _Later:
    def __init__(self, *names: str) -> None:
        self._names = names

    def __getattr__(self, word: str) -> Any:
        import structlog  # noqa: PLC0415 - see get_logger

        if structlog.is_configured():
            return getattr(structlog.stdlib.get_logger(*self._names), word)
        plain = structlog.wrap_logger(
            logging.getLogger(*self._names),
            processors=[structlog.stdlib.filter_by_level, structlog.stdlib.PositionalArgumentsFormatter(), _as_message],
            wrapper_class=structlog.stdlib.BoundLogger,
        )
        return getattr(plain, word)


def _as_message(
    _logger: object, _method: str, event: "structlog.typing.EventDict"
) -> tuple[tuple[str], dict[str, Any]]:
    """A line for whatever formats records: its fields in the text."""
    told = {name: event.pop(name) for name in ("exc_info", "stack_info", "stacklevel") if name in event}
    text = " ".join([str(event.pop("event", "")), *(f"{name}={value}" for name, value in event.items())])
    return (text,), told
