"""Traces of what runs, where they are switched on: spans by OpenTelemetry, whose library is loaded by `begin` alone.

Begun by roles and by cells. Who has something to trace looks at `active`: None, which is all that it costs, or the
Tracing of this process. The ids of spans are those that ids.Trace hands out in any case.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING

from runtime.base.errors import StartError
from runtime.base.ids import Trace

if TYPE_CHECKING:  # an extra: it may not be there
    from runtime.observe.otel import Tracing

active: "Tracing | None" = None
"""Set by begin; read it through the module, for it changes."""

_PREFIX = "OTEL_"


def load() -> None:
    """Load the library, so that a fork has it. StartError if it is not installed."""
    try:
        import_module("runtime.observe.otel")
    except ImportError as error:
        raise StartError(
            f"[traces] enabled: {error.name or error} is not installed; pip install 'fnrun[otel]', or switch traces off"
        ) from None


def begin(*, role: str, inside: bool = False, environ: Mapping[str, str] = os.environ) -> None:
    """Trace from now on, as the variables OTEL_* in `environ` say. StartError for what they cannot hold.

    role: of the process. inside: it is a cell, where others have begun the spans of calls and runs.
    """
    global active  # noqa: PLW0603 - one a process
    load()
    from runtime.observe.otel import Tracing  # noqa: PLC0415 - see above

    with _variables(environ):
        active = Tracing.begin(role, inside=inside)


@contextmanager
def _variables(environ: Mapping[str, str]) -> Iterator[None]:
    """Meanwhile they are this process's: the library reads them there, and a handler in a cell shall not."""
    lent = {name: value for name, value in environ.items() if name.startswith(_PREFIX) and name not in os.environ}
    os.environ.update(lent)
    try:
        yield
    finally:
        for name in lent:
            os.environ.pop(name, None)


def here(trace: Trace) -> Trace:
    """The trace of an invocation: that of the span it is in, where there is one."""
    return trace if active is None else active.here(trace)


def note_error(error: BaseException) -> None:
    """Have an error told by the span at work here."""
    if active is not None:
        active.note_error(error)


Note = Callable[[str, str | int], None]
"""Takes a function's name, and the id of its run, or how many they are."""


def _note_nothing(_: str, __: str | int) -> None:
    return None


_NOTHING: AbstractContextManager[Note] = nullcontext(_note_nothing)


def sending() -> AbstractContextManager[Note]:
    """Something is submitted within; what it gives is to be told what."""
    return _NOTHING if active is None else active.sending()


_HERE: AbstractContextManager[None] = nullcontext()


def continuing(trace: Trace) -> AbstractContextManager[None]:
    """What is traced within belongs to that span, which another process has begun."""
    return _HERE if active is None else active.continuing(trace)


def traceparent(otherwise: str) -> str:
    """W3C header of the span at work here; else that."""
    return otherwise if active is None else active.traceparent() or otherwise
