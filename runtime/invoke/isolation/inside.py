"""What a cell does with the calls of functions with isolation="process": the invoker runs them there, as anywhere.

Loaded by the command that their zygote is. Resources are opened for a cell's first call, and closed after its last.
"""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from contextvars import copy_context
from functools import wraps
from typing import Any, Protocol

import msgspec

from runtime.base.errors import FnrunError, InputError, StartError
from runtime.base.secrets.given import Secrets
from runtime.base.secrets.masking import hide
from runtime.declare.lifespan import Lifespan
from runtime.declare.markers import Reply
from runtime.declare.registry import Function, Registry
from runtime.invoke.binding import BindingFailed, PayloadPlan
from runtime.invoke.execute import Stream, noting_what_is_left
from runtime.invoke.invocation import Invocation, Outcome
from runtime.invoke.invoker import Invoker
from runtime.invoke.isolation.calls import Call, Head, Told, decode_call, encode
from runtime.invoke.isolation.faults import fault_of
from runtime.invoke.isolation.frames import LONGEST_FRAME
from runtime.invoke.isolation.kernel import address_space, has_children, lift_limit, limit_memory
from runtime.invoke.resources import Resources
from runtime.invoke.results import Unencodable, encode_json
from runtime.observe import traces

_LONGEST_BODY = LONGEST_FRAME - 100_000


class NotLoaded(FnrunError):  # noqa: N818 - a state
    """A function's file does not load in a process with a clean environment, though it does elsewhere."""


class Tells(Protocol):
    """What runtime.cell gives a job. last: set it if the cell shall get no more."""

    last: bool

    def __call__(self, message: bytes) -> None:
        """Tell of progress."""
        ...

    def begin(self) -> None:
        """The call's time begins."""
        ...


Perform = Callable[[bytes, Any], Coroutine[Any, Any, bytes]]


def perform_calls(registry: Registry) -> Callable[[], AbstractAsyncContextManager[Perform]]:
    """What a cell does with a job, which is a Call. StartError."""
    lifespan = registry.lifespan
    if lifespan is None:
        raise StartError("functions/_lifespan.py does not load, and nothing is run without its resources")

    @asynccontextmanager
    async def opens() -> AsyncIterator[Perform]:
        async with AsyncExitStack() as stack:
            yield _Calls(registry, lifespan, stack).perform

    return opens


class _Calls:
    """The calls of one cell, all of one function."""

    def __init__(self, registry: Registry, lifespan: Lifespan, stack: AsyncExitStack) -> None:
        self._registry = registry
        self._stack = stack
        self._resources = Resources(lifespan)
        self._invoker = Invoker(
            threads=1, expected=tuple(lifespan.exception_handlers), resources=self._resources.opened
        )
        self._function: Function | None = None

    async def perform(self, job: bytes, tell: Tells) -> bytes:
        """The Told of a Call."""
        call = decode_call(job)
        try:
            if self._function is None:
                self._function = await self._open(call)
                tell.begin()
            arguments = self._plan.bind(call.payload)
        except (FnrunError, InputError, BindingFailed) as error:
            tell.last = self._function is None
            return encode(Told(kind="error", fault=fault_of(error)))
        invocation = Invocation(
            function=self._function,
            trigger=call.trigger,
            arguments=arguments,
            run_id=call.run_id,
            trace=call.trace,
            timeout_seconds=call.timeout_seconds,
            attempt=call.attempt,
            report=tell if call.is_run else None,
            tick=call.tick,
            has_place=True,  # limits and fallbacks are for whoever sent the call
            falls_back=False,
        )
        with noting_what_is_left() as left:
            with traces.continuing(call.trace):
                outcome = await self._invoker.invoke(invocation)
            told = await _told_of(outcome, call.timeout_seconds)
        if len(told.body) > _LONGEST_BODY:
            told = Told(
                kind="unwritten", body=b"the result is too large to leave its process: %d bytes" % len(told.body)
            )
        tell.last = told.kind == "timeout" or bool(left) or self._has_grown()
        return encode(told)

    async def _open(self, call: Call) -> Function:
        """Be ready for calls of a function. StartError if a resource cannot be opened; NotLoaded."""
        name = call.function
        found = self._registry.functions.get(name)
        if found is None:
            why = "; ".join(str(failure) for failure in self._registry.failures) or "it is not there"
            raise NotLoaded(
                f"{name} does not load in the process that it is to have: {why}. Its environment is clean; what its "
                'imports need of ours is named in [isolation] env = ["NAME"]'
            )
        hide(call.secrets.values())
        found = msgspec.structs.replace(found, env=call.env, secrets=Secrets(call.secrets))
        os.environ.update(found.env)
        await self._resources.open()
        self._stack.push_async_callback(self._resources.close)
        self._plan = PayloadPlan(found)
        self._memory = found.policy.memory_bytes
        if self._memory is not None:
            if found.kind in ("sync", "sync stream"):  # its stack is none of the handler's memory
                await asyncio.wrap_future(self._invoker.threads.start(lambda: None, copy_context()))
            found = msgspec.structs.replace(found, call=_limited(found.call, self._memory))
        self._had_children = has_children()
        self._had_bytes = address_space()
        return found

    def _has_grown(self) -> bool:
        """Whether what a call left behind is a reason to take another cell for the next."""
        if not self._had_children and has_children():
            return True
        return self._memory is not None and address_space() - self._had_bytes > self._memory


def _limited(call: Callable[..., Any], more_bytes: int) -> Callable[..., Any]:
    """`call` with a limit to its memory, that is gone before anybody has to do with what it raised."""

    @wraps(call)
    async def run(*args: Any, **kwargs: Any) -> Any:
        limit_memory(more_bytes)
        try:
            return await call(*args, **kwargs)
        finally:
            lift_limit()

    @wraps(call)
    def run_sync(*args: Any, **kwargs: Any) -> Any:
        limit_memory(more_bytes)
        try:
            return call(*args, **kwargs)
        finally:
            lift_limit()

    @wraps(call)
    async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        limit_memory(more_bytes)
        try:
            async for item in call(*args, **kwargs):
                yield item
        finally:
            lift_limit()

    @wraps(call)
    def stream_sync(*args: Any, **kwargs: Any) -> Any:
        limit_memory(more_bytes)
        try:
            yield from call(*args, **kwargs)
        finally:
            lift_limit()

    if inspect.isasyncgenfunction(call):
        return stream
    if inspect.isgeneratorfunction(call):
        return stream_sync
    return run if inspect.iscoroutinefunction(call) else run_sync


async def _told_of(outcome: Outcome, timeout_seconds: float | None) -> Told:
    """An outcome as the worker is told of it. A stream's items are a list: nobody reads them one by one."""
    if outcome.reason == "timeout":
        return Told(kind="timeout")
    if outcome.error is not None:
        return Told(kind="error", fault=fault_of(outcome.error))
    value = outcome.value
    if isinstance(value, Stream):
        return await _told_of_stream(value, timeout_seconds)
    if isinstance(value, Reply):
        try:
            head = msgspec.convert({"status": value.status, "headers": value.headers}, Head)
        except msgspec.ValidationError:
            text = f"Reply(status={value.status!r}, headers=...): a status is a number, headers are text by name"
            return Told(kind="unwritten", body=text.encode("utf-8", "backslashreplace"))
        return msgspec.structs.replace(_told_of_value(value.body), head=head)
    return _told_of_value(value)


async def _told_of_stream(stream: Stream, timeout_seconds: float | None) -> Told:
    items: list[bytes] = []
    limit = asyncio.timeout(timeout_seconds)
    try:
        async with limit:
            async for item in stream:
                told = _told_of_value(item, as_json=True)
                if told.kind != "json":
                    return told
                items.append(told.body)
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError):
            raise
        if isinstance(error, TimeoutError) and limit.expired():
            return Told(kind="timeout")
        return Told(kind="error", fault=fault_of(error))
    finally:
        await stream.aclose()
    return Told(kind="json", body=b"[" + b",".join(items) + b"]")


def _told_of_value(value: Any, *, as_json: bool = False) -> Told:
    if not as_json:
        if value is None:
            return Told(kind="none")
        if isinstance(value, str):
            return Told(kind="text", body=value.encode("utf-8", "surrogatepass"))
        if isinstance(value, bytes | bytearray | memoryview):
            return Told(kind="bytes", body=bytes(value))
    try:
        return Told(kind="json", body=encode_json(value))
    except Unencodable as error:
        why = str(error)
    except BaseException as error:  # noqa: BLE001 - an author's type has code of its own; SystemExit would end the loop
        why = f"the result cannot be written as JSON: {type(error).__name__}"
    return Told(kind="unwritten", body=why.encode("utf-8", "backslashreplace"))
