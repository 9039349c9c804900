"""`auth = "signed"`: who calls shows that he knows a secret, by a signature of the body (Standard Webhooks).

Called by the core for each such route, before the body is bound. A message is taken once, whichever process it comes
to: its id is a key of a call (see ledger/once). What failed (5xx, or "come again") gives the id back, so that a sender
may try again. A message that comes again under a new timestamp, which only who has the secret can make, is answered as
the first time, and not carried out; one under the same timestamp is a replay, and refused.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from http import HTTPStatus

import msgspec

from runtime.base import webhooks
from runtime.base.errors import InputError, Problem
from runtime.base.logs import get_logger
from runtime.declare.registry import Function
from runtime.declare.request import Request
from runtime.invoke.execute import noting_what_is_left
from runtime.ledger.once import Found, digest_of
from runtime.triggers.http.answers import Answer, Parts, problem_answer
from runtime.triggers.http.durable import Later
from runtime.triggers.http.once import is_final

log = get_logger(__name__)

_HEADERS = tuple(name.encode() for name in (webhooks.ID, webhooks.TIMESTAMP, webhooks.SIGNATURE))
_LONGEST_ID = 500
_RETRY_SECONDS = "1"
_REPLAYED = (b"idempotency-replayed", b"true")


class _Taken(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a message: the timestamp it was taken under, and the status it was answered with."""

    timestamp: str
    status: int


class SignedRoute:
    """The check of one route. secrets: any of them may have signed. locally: in `fnrun dev`, unsigned calls pass."""

    def __init__(
        self, function: Function, secrets: Sequence[str], later: Later, *, locally: Callable[[], bool]
    ) -> None:
        self._function = function
        self._secrets = [webhooks.secret_of(text) for text in secrets]
        self._later = later
        self._locally = locally

    async def answer(self, request: Request, run_id: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer of `work`, if the request is signed and new. Problem (401, 409), StoreDown."""
        message, timestamp, signatures = (request.header(name) or "" for name in _HEADERS)
        if self._locally() and not (message or timestamp or signatures):
            return await work()
        check = partial(webhooks.fault_of, self._secrets, message, timestamp, signatures)
        # Without a word of truth in the headers the body need not be read; and its signature is of the raw one.
        fault = webhooks.fault_of([], message, timestamp, signatures, b"", time.time())
        if fault == webhooks.UNKNOWN and len(message) <= _LONGEST_ID:
            fault = check(await request.body(), time.time())
        if fault is not None:
            log.info("a signed call is refused", function=self._function.name, run_id=run_id, reason=fault)
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "Unauthorized",
                headers={"WWW-Authenticate": "StandardWebhooks"},
                detail="this needs a signature (Standard Webhooks) of a secret that is known here, made just now",
            )
        return await self._once(digest_of("signed", self._function.name, message), timestamp, run_id, work)

    async def _once(self, key: str, timestamp: str, run_id: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        holds = self._later.at_hand().holds
        found = await holds.take(key, run_id, "", _lost)
        if found.verdict != "mine":
            return _instead(found, timestamp)
        with noting_what_is_left() as left:
            try:
                answer = await _finished(work, run_id)
            except BaseException:
                await holds.release(key, run_id, left)
                raise
        if not is_final(answer):
            await holds.release(key, run_id, left)
        else:
            taken = msgspec.msgpack.encode(_Taken(timestamp, int(answer.status)))
            if not await holds.keep(key, run_id, answer=taken):
                if isinstance(answer.body, Parts):
                    await answer.body.aclose()
                raise _under_way()
        return answer


def _lost() -> None:
    """Another call has the message, because this process stood still: its answer counts, and this one's is refused."""


async def _finished(work: Callable[[], Awaitable[Answer]], run_id: str) -> Answer:
    try:
        return await work()
    except (Problem, InputError) as error:
        return problem_answer(run_id, error)


def _instead(found: Found, timestamp: str) -> Answer:
    """The answer to a message that was taken before, or is being. Problem (409)."""
    if found.verdict != "kept" or found.answer is None:
        raise _under_way()
    taken = msgspec.msgpack.decode(found.answer, type=_Taken)
    if taken.timestamp == timestamp:
        raise Problem(409, detail="this message was taken already; it is not carried out again")
    return Answer(taken.status, [_REPLAYED], b"")


def _under_way() -> Problem:
    return Problem(
        409, headers={"Retry-After": _RETRY_SECONDS}, detail="this message is at work; it is not carried out twice"
    )
