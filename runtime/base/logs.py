"""One way to log: structlog over the standard library, console or JSON, the run's id on every line.

Configured once by roles and cli. Lines of other libraries and of handlers that use `logging` pass through the
same formatter. Never called per request unless there is something to say.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

from runtime.base.secrets.masking import mask

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

        return getattr(structlog.stdlib.get_logger(*self._names), word)


def _masked(_logger: object, _method: str, line: Any) -> Any:
    """The line as it is written, tracebacks and all, without secrets."""
    return mask(line)


def configure(
    *, style: Format, level: Level, stream: TextIO = sys.stdout, fields: Callable[[], Mapping[str, Any]] = dict
) -> None:
    """Send every log line of this process to `stream`.

    style: "auto" is console on a terminal and JSON elsewhere. fields: what to add to each line, asked for when a
    line is written (the run at work; base knows nothing of runs).
    """
    import structlog  # noqa: PLC0415 - see get_logger

    console = style == "console" or (style == "auto" and stream.isatty())

    def add_fields(_logger: object, _method: str, event: "structlog.typing.EventDict") -> "structlog.typing.EventDict":
        for name, value in fields().items():
            event.setdefault(name, value)
        return event

    shared: list[structlog.typing.Processor] = [
        add_fields,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if console else "iso", utc=not console),
    ]
    render: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render, _masked],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
