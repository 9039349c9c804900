"""Where lines go and how they look: console or JSON, to a stream and to a file, off the threads that have them.

`begin` is called once by roles and cli, by the settings; `configure` says the same in detail. Never called per request.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from typing_extensions import override

from runtime.base.logs.lines import keep, keeps, line_of, masked
from runtime.base.logs.loggers import Format, Level
from runtime.base.logs.prints import original
from runtime.base.logs.writers import Stream, Target, Writer
from runtime.base.secrets.masking import mask

if TYPE_CHECKING:
    import structlog

    from runtime.base.sections import LogSettings

Fields = Callable[[], Mapping[str, Any]]
_tells_all = False


def tells_all() -> bool:
    """Whether each invocation has a line, not only those with a problem: [log] requests."""
    return _tells_all


def begin(
    root: Path,
    settings: "LogSettings",
    *,
    fields: Fields = dict,
    stream: TextIO | None = None,
    direct: bool = False,
) -> None:
    """Log as the settings of the project in `root` say. StartError if the file cannot be written.

    direct: write each line before going on, in a process that may be killed at any moment, or is to have one thread.
    """
    global _tells_all  # noqa: PLW0603 - one log a process
    _tells_all = settings.requests == "all"
    file = None
    if settings.file and stream is None:
        from runtime.base.logs.files import LogFile, Rotation, path_of  # noqa: PLC0415 - seldom there

        kept = Rotation(
            size=int(settings.rotate_size),
            every=float(settings.rotate_every),
            keep=float(settings.keep),
            keep_files=settings.keep_files,
        )
        file = LogFile(path_of(root, settings.file), kept)
        file.check()
    configure(
        style=settings.format,
        level=settings.level,
        stream=stream,
        fields=fields,
        file=file,
        levels=settings.levels,
        direct=direct,
    )


def configure(  # noqa: PLR0913 - each by its name, in few places
    *,
    style: Format,
    level: Level,
    stream: TextIO | None = None,
    fields: Fields = dict,
    file: Target | None = None,
    levels: Mapping[str, Level] = {},
    direct: bool = True,
) -> None:
    """Send every log line of this process to `stream`, stdout unless said, and to `file`, which is JSON if "auto".

    style: "auto" is console on a terminal and JSON elsewhere. fields: what to add to each line, asked for when a
    line is written (the run at work; base knows nothing of runs). levels: of loggers by their names.
    """
    import structlog  # noqa: PLC0415 - see loggers

    stream = original(sys.stdout if stream is None else stream)
    console = style == "console" or (style == "auto" and stream.isatty())

    def add_fields(_logger: object, _method: str, event: "structlog.typing.EventDict") -> "structlog.typing.EventDict":
        for name, value in fields().items():
            event.setdefault(name, value)
        return event

    shared: list[structlog.typing.Processor] = [
        add_fields,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
    ]
    handlers: list[logging.Handler] = [
        _Keeping(fields, _formatter(shared, [structlog.processors.format_exc_info, _as_line])),
        _Writing(Stream(stream), shared, console=console, colors=stream.isatty(), direct=direct),
    ]
    if file is not None:
        handlers.append(_Writing(file, shared, console=style == "console", colors=False, direct=direct))
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(level.upper())
    for name, one in levels.items():
        logging.getLogger(name).setLevel(one.upper())
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


def _formatter(
    shared: "list[structlog.typing.Processor]", render: "list[structlog.typing.Processor]"
) -> logging.Formatter:
    import structlog  # noqa: PLC0415 - see loggers

    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=render)


class _Writing(logging.Handler):
    """Renders lines where they are made, for what they tell of may change, and has a writer write them."""

    def __init__(
        self,
        target: Target,
        shared: "list[structlog.typing.Processor]",
        *,
        console: bool,
        colors: bool,
        direct: bool,
    ) -> None:
        import structlog  # noqa: PLC0415 - see loggers

        super().__init__()
        self._console = console
        render: list[structlog.typing.Processor] = [_stamp(local=console), _drop_meta]
        if console:
            plain = structlog.dev.plain_traceback
            render = [
                _brief,
                *render,
                _mask_values,
                structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain),
            ]
        else:
            render += [structlog.processors.format_exc_info, _mask_values, structlog.processors.JSONRenderer()]
        self.setFormatter(_formatter(shared, render))
        self._writer = Writer(target, self._tell_dropped, direct=direct)

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.put(self._bytes_of(record))
        except Exception:  # noqa: BLE001 - as in logging itself: a line that cannot be written fails nobody
            self.handleError(record)

    def _bytes_of(self, record: logging.LogRecord) -> bytes:
        text = self.format(record)
        if self._console:  # of JSON the values are masked, and it shall stay JSON
            text = mask(text)
        return f"{text}\n".encode("utf-8", "backslashreplace")

    def _tell_dropped(self, count: int) -> bytes:
        text = "log lines were dropped: they came faster than they could be written"
        return self._bytes_of(logging.makeLogRecord({"msg": text, "levelname": "WARNING", "count": count}))


class _Keeping(logging.Handler):
    """Gives the lines of runs to whoever keeps them, if anybody does."""

    def __init__(self, fields: Fields, formatter: logging.Formatter) -> None:
        super().__init__()
        self._fields = fields
        self.setFormatter(formatter)

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if not keeps():
            return
        own = record.msg if isinstance(record.msg, dict) else self._fields()
        run_id = own.get("run_id")
        if not isinstance(run_id, str):
            return
        try:
            keep(run_id, self.format(record).encode())
        except Exception:  # noqa: BLE001 - as above
            self.handleError(record)


def _stamp(*, local: bool) -> "structlog.typing.Processor":
    """The time of a line: of the clock on the wall, or as it stands in JSON."""

    def stamp(_logger: object, _method: str, event: "structlog.typing.EventDict") -> "structlog.typing.EventDict":
        made = event["_record"].created
        when = datetime.fromtimestamp(made) if local else datetime.fromtimestamp(made, UTC)  # noqa: DTZ006 - as said
        event["timestamp"] = f"{when:%H:%M:%S.%f}" if local else f"{when:%Y-%m-%dT%H:%M:%S.%f}Z"
        return event

    return stamp


def _drop_meta(_logger: object, _method: str, event: "structlog.typing.EventDict") -> "structlog.typing.EventDict":
    del event["_record"]
    del event["_from_structlog"]
    return event


def _brief(_logger: object, _method: str, event: "structlog.typing.EventDict") -> "structlog.typing.EventDict":
    """For people, without what goes without saying: a first attempt, a trace that begins with the run."""
    if event.get("attempt") == 1:
        del event["attempt"]
    if "trace_id" in event and event["trace_id"] == event.get("run_id"):
        del event["trace_id"]
    return event


def _mask_values(_logger: object, _method: str, event: "structlog.typing.EventDict") -> "structlog.typing.EventDict":
    return {name: value if name == "exc_info" else masked(value) for name, value in event.items()}


def _as_line(_logger: object, _method: str, event: "structlog.typing.EventDict") -> str:
    return line_of(event["_record"].created, event).decode()
