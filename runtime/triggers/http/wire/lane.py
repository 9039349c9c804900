"""The short way of a plain request: from its bytes straight to the shell, past h11, Hypercorn and ASGI.

Asked by connection for what comes while nothing is under way. What is not a plain request beyond doubt is left as it
is, to the last byte, for http1 and http2. Refuses in an overload, also where the short way is off.
"""

import asyncio
from contextvars import Context as Variables
from contextvars import copy_context
from functools import cached_property
from typing import Any, Protocol

from runtime.base.logs import get_logger
from runtime.declare.request import Request
from runtime.triggers.http.shedding.overload import LANE_TURNS, STOCK_TURNS, Cause
from runtime.triggers.http.shedding.slices import ASKED
from runtime.triggers.http.wire.exchange import Exchange
from runtime.triggers.http.wire.heads import Head, Reader
from runtime.triggers.http.wire.link import Link, Way
from runtime.triggers.http.wire.requests import Host, date_now

log = get_logger(__name__)

_LONGEST_DROPPED = 65_536
"""Of a body whose request was refused: what is let come, so that its connection can be used further."""


class Direct(Protocol):
    """What answers requests that come without a scope: the shell."""

    def begin(self, request: Request, exchange: Exchange, variables: Variables) -> bool:
        """Start to answer one the short way, then `close` it; False if it is to `serve`."""

    async def serve(self, request: Request, link: Link) -> None:
        """Answer one."""


class Track(Way, Protocol):
    """What the lane needs of a connection. passed: the request that comes next was judged already, and let in."""

    passed: bool

    def begin(self, exchange: Exchange, rest: bytes) -> None:
        """A request is under way from now on. rest: what came behind it."""

    def skip(self, missing: int, rest: bytes) -> None:
        """A request was refused. missing: so much of its body is to come, and to be dropped."""

    def close(self) -> None:
        """End it."""


class Lane:
    """One a server. direct: None where the short way is off."""

    def __init__(self, host: Host, direct: Direct | None) -> None:
        self._host = host
        self._direct = direct
        self._reader = Reader(host.limits)
        self._loop = asyncio.get_running_loop()

    def take(self, track: Track, data: bytes) -> bool:
        """Whether the request that these bytes begin is answered here. False: not one of them was used."""
        overload, direct = self._host.overload, self._direct
        if direct is None and not overload.active:
            return False
        head = self._reader.read(data)
        if head is None:
            return False
        if direct is None:
            return self._turns_away(track, head, data)
        method, target, lines, size = head.method, head.target, head.lines, head.size
        cause = overload.judge(method, target, later=lines.later, turns=LANE_TURNS)
        if cause is not None:
            self._refuse(track, head, data, cause)
            return True
        body = rest = b""
        if size != len(data):
            end = size + lines.length
            body, rest = data[size:end], data[end:]
        exchange = Exchange(self._host, track, method, target, lines)
        if lines.length:
            exchange.expect(body)
        track.begin(exchange, rest)
        path, _, query = target.partition(b"?")
        ends = track.ends
        request = Request(method, path.decode(), query, lines.headers, exchange, ends.host, ends.scheme)
        overload.begin()
        variables = self.variables.copy()
        if not direct.begin(request, exchange, variables):
            task = self._loop.create_task(self._answer(direct, request, exchange), context=variables)
            self._host.tasks.running.add(task)
        return True

    def _turns_away(self, track: Track, head: Head, data: bytes) -> bool:
        """Where the short way is off: whether it was refused. Else its protocol need not ask again."""
        if head.lines.later or not _is_dropped(head, len(data)):
            return False
        overload = self._host.overload
        cause = overload.judge(head.method, head.target, later=head.lines.later, turns=STOCK_TURNS)
        if cause is not None:
            self._refuse(track, head, data, cause)
            return True
        track.passed = True
        overload.await_passed()
        return False

    @cached_property
    def variables(self) -> Variables:
        """What is known wherever a request is taken: none knows what another one's handler has set."""
        variables = copy_context()
        variables.run(ASKED.set, True)
        return variables

    def _refuse(self, track: Track, head: Head, data: bytes, cause: Cause) -> None:
        track.outbox.write(self._host.overload.answer(cause, date_now()))
        end = head.size + head.lines.length
        missing = max(0, end - len(data))
        if not head.lines.keep or (missing and head.lines.length > _LONGEST_DROPPED):
            track.close()
        else:
            track.skip(missing, data[end:])

    async def _answer(self, direct: Direct, request: Request, exchange: Exchange) -> None:
        try:
            await direct.serve(request, exchange)
        except Exception as error:
            log.error("request failed inside the server", exc_info=error)  # noqa: TRY400 - the traceback is in it
        finally:
            exchange.close()
            task: Any = asyncio.current_task()
            self._host.tasks.running.discard(task)


def _is_dropped(head: Head, size: int) -> bool:
    """Whether its connection can be used further if it is refused, and its body dropped; of so many bytes that came."""
    length = head.lines.length
    return head.lines.keep and length <= _LONGEST_DROPPED and head.size + length >= size
