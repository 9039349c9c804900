"""A request's span, where traces are on: around its endpoint, until its answer is made, or its stream is closed.

Called by the core when routes are made: where traces are off nothing is left of it.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from runtime.base.errors import InputError, Problem
from runtime.base.ids import Trace
from runtime.declare.request import Request
from runtime.observe import traces
from runtime.triggers.http.answers import Answer, Parts
from runtime.triggers.http.durable import REFUSALS, refusal_of

if TYPE_CHECKING:  # it has to do with a library that may not be there
    from runtime.observe.otel import Span, Tracing
    from runtime.triggers.http.core import Call


Handle = Callable[["Call"], Awaitable[Answer]]


def traced(handle: Handle, function: str, route: str) -> Handle:
    """What answers a route of a function, with a span around it where traces are on; else as it is."""
    tracing = traces.active
    if tracing is None:
        return handle
    return partial(_serve_in_span, tracing, function, route, handle)


async def _serve_in_span(tracing: "Tracing", function: str, route: str, handle: Handle, call: "Call") -> Answer:
    """Have a call of a function answered within a span of its own. Raises what `handle` raises."""
    from runtime.observe.otel import trace_in  # noqa: PLC0415 - see above

    request = call.request
    # The run that an answer points to has the ids that this call would have had; so they are not this span's.
    later = "respond-async" in (request.header(b"prefer") or "")
    told = _told(request, call.run_id, function, route)
    span = tracing.start(f"{request.method} {route}", "server", told, trace=call.trace, own_id=not later)
    here = trace_in(span.get_span_context(), call.trace.parent_id)
    if later:
        here = Trace(here.trace_id, call.trace.span_id, here.span_id, here.flags)
    status: int | None = None
    answer: Answer | None = None
    try:
        with tracing.within(span):
            answer = await handle(msgspec.structs.replace(call, trace=here))
        status = answer.status
    except BaseException as error:
        status = _status_of(error)
        if status is None:
            span.set_attribute("error.type", type(error).__name__)
        raise
    finally:
        _note_status(span, status)
        if answer is not None and isinstance(answer.body, Parts):
            _end_with(span, answer.body)
        else:
            span.end()
    return answer


def _told(request: Request, run_id: str, function: str, route: str) -> dict[str, str]:
    """What a span says of a request: no query and no header that could hold a secret."""
    told = {
        "http.request.method": request.method,
        "http.route": route,
        "url.path": request.path,
        "faas.trigger": "http",
        "faas.name": function,
        "faas.invocation_id": run_id,
    }
    agent = request.header(b"user-agent")
    return {**told, "user_agent.original": agent} if agent else told


def _status_of(error: BaseException) -> int | None:
    """What the core will answer; None for nothing."""
    if isinstance(error, Problem | InputError):
        return error.status
    if isinstance(error, REFUSALS):
        return refusal_of(error).status
    return 500 if isinstance(error, Exception) and not isinstance(error, ConnectionError) else None


def _note_status(span: "Span", status: int | None) -> None:
    from runtime.observe.otel import fail  # noqa: PLC0415 - see above

    if status is None:
        fail(span, "the caller went away")
        return
    span.set_attribute("http.response.status_code", status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        fail(span, f"answered {status}")


def _end_with(span: "Span", parts: Parts) -> None:
    from runtime.observe.otel import fail, note_exception  # noqa: PLC0415 - see above

    before = parts.on_close

    async def close() -> None:
        if parts.error is not None:
            note_exception(span, parts.error)
            fail(span, "the stream failed midway")
        span.end()
        if before is not None:
            await before()

    parts.on_close = close
