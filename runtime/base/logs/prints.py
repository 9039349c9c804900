"""What handlers print, as lines of the log: sys.stdout and sys.stderr, replaced by streams that know who is at work.

Put in place by who runs handlers. Outside of a handler, and below the level of text (buffer, fileno, what programs that
a handler starts write), everything is as it was.
"""

import io
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from typing_extensions import override

from runtime.base.secrets.masking import mask

LOGGER = "print"
_LONGEST = 16_000
"""Of a text without an end of line; then it is a line."""

Fields = Callable[[], Mapping[str, Any]]

begun: dict[tuple[str, str], str] = {}
"""What is printed and has no end of line yet, by the run and the stream."""
_inside = threading.local()


class Printed(io.TextIOBase):
    """Stands in for `stream`. name: "stdout" or "stderr". fields: of whoever is at work here, nothing outside."""

    def __init__(self, stream: TextIO, name: str, fields: Fields) -> None:
        self._stream = stream
        self._name = name
        self._fields = fields

    @override
    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        fields = {} if getattr(_inside, "busy", False) else self._fields()
        if not fields:
            self._stream.write(mask(text))
            if "\n" in text:  # what the log writes goes past its buffer
                self._stream.flush()
            return len(text)
        run = (str(fields.get("run_id", "")), self._name)
        *lines, rest = (begun.pop(run, "") + text).split("\n")
        if len(rest) > _LONGEST:
            lines.append(rest)
            rest = ""
        if rest:
            begun[run] = rest
        for line in lines:
            _tell(line, self._name)
        return len(text)

    @override
    def flush(self) -> None:
        self._stream.flush()

    @override
    def fileno(self) -> int:
        return self._stream.fileno()

    @override
    def isatty(self) -> bool:
        return self._stream.isatty()

    @override
    def writable(self) -> bool:
        return True

    @override
    def close(self) -> None:
        """As little as sys.stdout is closed by itself; also called when this object goes."""

    @property
    def buffer(self) -> Any:
        """Of bytes, past the log."""
        return self._stream.buffer

    @property
    @override
    def encoding(self) -> str:  # type: ignore[override]  # a property here, as in io.TextIOWrapper
        return self._stream.encoding

    @property
    @override
    def errors(self) -> str | None:  # type: ignore[override]  # as above
        return self._stream.errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def catch_prints(fields: Fields) -> None:
    """From now on make lines of what handlers print. fields: of the run at work; nothing where there is none."""
    sys.stdout = _around(sys.stdout, "stdout", fields)
    sys.stderr = _around(sys.stderr, "stderr", fields)
    logging.getLogger(LOGGER).setLevel(logging.DEBUG)  # whoever prints means to be heard, whatever the level


def original(stream: TextIO) -> TextIO:
    """A stream as it was before."""
    return stream._stream if isinstance(stream, Printed) else stream


def _around(stream: TextIO, name: str, fields: Fields) -> TextIO:
    return Printed(original(stream), name, fields) if stream is not None else stream  # type: ignore[redundant-expr,return-value]  # it is None under pythonw


def end_prints(run_id: str) -> None:
    """A handler has ended: what it printed without an end of line is a line, too. In its context."""
    for name in ("stdout", "stderr"):
        if rest := begun.pop((run_id, name), ""):
            _tell(rest, name)


def _tell(line: str, name: str) -> None:
    """One line. While it is written, a print of the log's own goes where it would have gone without us."""
    if not line.strip():
        return
    _inside.busy = True
    try:
        logging.getLogger(LOGGER).info("%s", line.rstrip("\r"), extra={"printed": name})
    finally:
        _inside.busy = False
