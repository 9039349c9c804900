"""Results of runs as JSON: strictly, and not too long. Failures, as the ledger keeps them.

Used by the execution. A handler's result may hold types of its author's, with code of their own.
"""

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

from runtime.base.errors import FnrunError
from runtime.declare.markers import Reply
from runtime.declare.registry import Function
from runtime.invoke.execute import Stream
from runtime.invoke.isolation.faults import said_of
from runtime.invoke.results import Unencodable, encode_json, may_hold_float
from runtime.ledger.records import Failure


class BadResult(FnrunError):  # noqa: N818 - a verdict on what a handler returned
    """A result that cannot be kept, and why."""


class TooLong(Exception):  # noqa: N818 - a verdict
    """A generator took longer than its run may."""


class Results:
    """most_bytes: of one result."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._plain: dict[Function, bool] = {}

    def adopt(self, functions: Iterable[Function]) -> None:
        """Know these functions, and no others."""
        self._plain = {function: not may_hold_float(function.returns) for function in functions}

    async def write(self, value: Any, function: Function, left_seconds: float) -> bytes:
        """What a handler returned, as JSON: a Reply's body, a generator's items as a list.

        BadResult if it is none; TooLong, and what a generator raises.
        """
        if isinstance(value, Stream):
            limit = asyncio.timeout(left_seconds)
            try:
                async with limit:
                    return await self._collect(value)
            except TimeoutError:
                if limit.expired():
                    raise TooLong from None
                raise
        return self.write_plain(value, function)

    def write_plain(self, value: Any, function: Function) -> bytes:
        """As write, for what is no generator. BadResult."""
        if issubclass(type(value), Reply):  # to ask a proxy of the author's for its class may raise
            value = value.body
        return self._encode(value, may_be_nan=not self._plain.get(function, False))

    async def _collect(self, stream: Stream) -> bytes:
        items, size = [], 2
        async with aclosing(stream):
            async for item in stream:
                items.append(self._encode(item, may_be_nan=True))
                size += len(items[-1]) + 1
                self._check_size(size)
        return b"[" + b",".join(items) + b"]"

    def _encode(self, value: Any, *, may_be_nan: bool) -> bytes:
        try:
            content = encode_json(value, may_be_nan=may_be_nan)
        except Unencodable as error:
            raise BadResult(str(error)) from None
        except BaseException as error:  # an author's type has code of its own; SystemExit would end the loop
            raise BadResult(f"the result cannot be written as JSON: {type(error).__name__}") from error
        self._check_size(len(content))
        return content

    def _check_size(self, size: int) -> None:
        if size > self.most_bytes:
            raise BadResult(
                f"the result is larger than {self.most_bytes} bytes; keep it elsewhere and return where it is, or "
                "raise [queue] result_max"
            )


def failure_of(error: BaseException) -> Failure:
    """An error as the ledger keeps it."""
    message, lines = said_of(error)
    return Failure(type=type(error).__name__, message=message, traceback=lines)
