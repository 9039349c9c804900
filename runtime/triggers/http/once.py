"""Carry a call out once: what Idempotency-Key asks for its caller, and idempotent= for all callers of a function.

Called by the core and the admin API; the ledger holds the keys. A key is asked for before the handler runs, and the
answer is kept with it before the caller gets it. What wants the store and does not get it raises StoreDown (503).

Source: draft-ietf-httpapi-idempotency-key-header. As with Stripe, nothing is kept of a request that was refused before
its function began; otherwise than there, an answer of 500 and above is not kept: the next call is carried out.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from runtime.base.errors import InputError, Problem, QueueFull
from runtime.base.ids import Trace
from runtime.base.logs import get_logger
from runtime.declare.markers import Reply
from runtime.declare.registry import Function
from runtime.declare.request import Request
from runtime.invoke.execute import noting_what_is_left
from runtime.invoke.idempotency import KeyFailed, plan_key
from runtime.invoke.invocation import Outcome
from runtime.invoke.readers import Form
from runtime.invoke.results import Unencodable, encode_json
from runtime.ledger.once import Found, accept_once, digest_of, key_of_function
from runtime.triggers.http.answers import Answer, Parts, is_response, problem_answer, returns_any
from runtime.triggers.http.durable import Later, LaterRoute
from runtime.triggers.http.prefer import Preference

if TYPE_CHECKING:  # loaded with the first upload
    from starlette.datastructures import UploadFile

log = get_logger(__name__)

KEYED = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""The methods that heed the header; the others change nothing."""

_HEADER = b"idempotency-key"
_BARE = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED = re.compile(r'"((?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"')
_REPLAYED = (b"idempotency-replayed", b"true")
_RETRY_SECONDS = "1"
_ASK_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_CHUNK_BYTES = 65_536
_TAKEN_OVER = "the key was lost to another call"


class Asked(msgspec.Struct, frozen=True):
    """What a header asks for. key, request: digests."""

    key: str
    request: str


class Worked(msgspec.Struct, kw_only=True):
    """A call that was carried out, or that another one was carried out for. outcome: of the first kind."""

    answer: Answer
    outcome: Outcome | None = None
    replayed: bool = False


Work = Callable[[], Awaitable[Worked]]


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it is kept. lost: why it is not, though the call was carried out."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = []
    body: bytes = b""
    lost: str = ""


async def carry_out(answering: Awaitable[Answer], outcome: Outcome, run_id: str) -> Worked:
    """A call whose handler has ended, with its answer, errors too."""
    try:
        return Worked(answer=await answering, outcome=outcome)
    except (Problem, InputError) as error:
        return Worked(answer=problem_answer(run_id, error), outcome=outcome)


class OnceRoute:
    """One route of a function. route: for those who prefer to be answered later. caller_of: whose a request is."""

    def __init__(
        self, function: Function, later: Later, route: LaterRoute | None, caller_of: Callable[[Request], Awaitable[str]]
    ) -> None:
        self._function = function
        self._later = later
        self._route = route
        self._caller_of = caller_of
        self._plan = plan_key(function)
        self._streams = function.items is not None or returns_any(function, "StreamingResponse", "FileResponse")

    async def asked(self, request: Request, body: bytes | Form) -> Asked | None:
        """What the header says; None where it is not there, or not heeded. InputError (400)."""
        if request.method not in KEYED or (said := request.header(_HEADER)) is None:
            return None
        quoted = _QUOTED.fullmatch(said)
        key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else said
        if (said.startswith('"') and not quoted) or not _BARE.fullmatch(key):
            raise InputError(400, "Idempotency-Key is one key of 1 to 255 visible ASCII characters")
        if self._streams:
            raise InputError(400, "Idempotency-Key: this function streams, and a stream cannot be kept; leave it out")
        return Asked(
            digest_of("call", await self._caller_of(request), self._function.name, key),
            digest_of(request.method, request.path, request.query_string, *await _parts_of(request, body)),
        )

    async def answer(self, run_id: str, asked: Asked | None, arguments: Mapping[str, Any], work: Work) -> Answer:
        """The answer to a call that is carried out once. Problem, StoreDown, QueueFull."""
        key = self._key_of(run_id, arguments)
        if key is not None:
            work = partial(self._once, run_id, Asked(key, ""), self._kept_for_all, work)
        if asked is not None:
            work = partial(self._once, run_id, asked, self._kept_for_caller, work)
        worked = await work()
        return _replay(worked.answer) if worked.replayed else worked.answer

    async def answer_later(
        self, run_id: str, trace: Trace, arguments: dict[str, Any], preference: Preference, asked: Asked
    ) -> Answer:
        """Accept a run, unless there is one with this key; then its result, if it comes in time, or else 202."""
        assert self._route is not None  # noqa: S101 - who prefers has been asked of it
        run = self._route.submission(run_id, trace, arguments, preference)
        found = await accept_once(self._later.at_hand(), asked.key, asked.request, run)
        if found.verdict == "full":
            raise QueueFull(run.queue, run.max_length)
        if found.verdict not in ("accepted", "run"):
            return _replay((await self._instead(found)).answer)
        try:
            answer = await self._route.answer_accepted(found.run_id, preference)
        except Problem as error:  # that of the run, whoever asks
            answer = problem_answer(found.run_id, error)
        return answer if found.run_id == run_id else _replay(answer)

    @property
    def has_key(self) -> bool:
        """Whether its function says idempotent=."""
        return self._plan is not None

    def _key_of(self, run_id: str, arguments: Mapping[str, Any]) -> str | None:
        if self._plan is None:
            return None
        try:
            key = self._plan.key_of(arguments)
        except KeyFailed:
            log.exception("a call has no key", run_id=run_id)
            detail = f"idempotent= of {self._function.name} failed; its log has the run id"
            raise Problem(500, detail=detail) from None
        return None if key is None else key_of_function(self._function.name, key)

    async def _once(
        self, run_id: str, asked: Asked, kept: Callable[[Worked], tuple[bytes, bytes | None] | None], work: Work
    ) -> Worked:
        """What the one call with this key comes to. Problem (409, 410, 422) where there is another in its place."""
        holds, watch = self._later.at_hand().holds, _Watch()
        found = await holds.take(asked.key, run_id, asked.request, watch.lose)
        if found.verdict != "mine":
            return await self._instead(found)
        with noting_what_is_left() as left:
            try:
                worked = await watch.over(work)
                keep = kept(worked)
            except BaseException:
                await holds.release(asked.key, run_id, left)
                raise
        if keep is None:
            await holds.release(asked.key, run_id, left)
        elif not await holds.keep(asked.key, run_id, answer=keep[0], result=keep[1]):
            if isinstance(worked.answer.body, Parts):
                await worked.answer.body.aclose()
            raise _under_way()
        return worked

    async def _instead(self, found: Found) -> Worked:
        """What a call is answered that is not carried out. Problem."""
        if found.verdict == "kept":
            return Worked(answer=self._kept_answer(found), replayed=True)
        if found.verdict == "run":
            return await self._answer_of_run(found.run_id)
        if found.verdict == "other":
            raise Problem(422, detail="this Idempotency-Key was used for another request; each request has its own")
        raise _under_way()

    def _kept_answer(self, found: Found) -> Answer:
        if found.answer is None:
            if self._route is None:
                raise Problem(410, detail="a run has done this, whose result cannot be answered here")
            return self._route.answer_of_json(found.result or b"null")
        kept = msgspec.msgpack.decode(found.answer, type=_Kept)
        if kept.lost:
            raise Problem(410, detail=f"this was carried out, once, and its answer is not kept: {kept.lost}")
        return Answer(kept.status, list(kept.headers), kept.body)

    async def _answer_of_run(self, run_id: str) -> Worked:
        view = await self._later.at_hand().show(run_id)
        if view is None or self._route is None:
            raise Problem(410, detail=f"this is run {run_id}, which is no longer kept")
        if not view.is_finished:
            raise _under_way({"Location": f"/_/runs/{run_id}"})
        try:
            answer = self._route.answer_finished(view)
        except Problem as error:
            answer = problem_answer(run_id, error)
        return Worked(answer=answer, replayed=True)

    def _kept_for_caller(self, worked: Worked) -> tuple[bytes, bytes | None] | None:
        """What is kept of a call for its own caller: the answer, unless it asks to be called again or fell back."""
        fell_back = worked.outcome is not None and worked.outcome.fell_back is not None
        return (self._packed(worked.answer), None) if is_final(worked.answer) and not fell_back else None

    def _kept_for_all(self, worked: Worked) -> tuple[bytes, bytes | None] | None:
        """What is kept of a call for all callers, and for runs: successes; cookies are of one caller alone."""
        outcome = worked.outcome
        if outcome is None or outcome.state != "succeeded" or not is_final(worked.answer) or outcome.fell_back:
            return None
        value = outcome.value.body if isinstance(outcome.value, Reply) else outcome.value
        result = None
        if self._route is not None:
            with suppress(Unencodable):
                result = encode_json(value)
        if result is not None and len(result) > self._later.at_hand().result_max:
            result = None
        return self._packed(worked.answer, leave_out=b"set-cookie"), result

    def _packed(self, answer: Answer, leave_out: bytes = b"") -> bytes:
        most = self._later.at_hand().result_max
        body: Any = answer.body
        headers = answer.headers
        if is_response(body):
            headers = [*body.raw_headers, *headers]
            body = getattr(body, "body", None)  # what streams has none
        if not isinstance(body, bytes | memoryview):
            kept = _Kept(lost="it was a stream")
        elif len(body) > most:
            kept = _Kept(lost=f"it is longer than {most} bytes")
        else:
            kept = _Kept(int(answer.status), [one for one in headers if one[0].lower() != leave_out], bytes(body))
        return msgspec.msgpack.encode(kept)


class _Watch:
    """Ends the handler of a call that has lost its key."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._working = False

    def lose(self) -> None:
        """The key is another's; from another thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if self._working and self._task is not None:
            self._task.cancel(_TAKEN_OVER)

    async def over(self, work: Work) -> Worked:
        """What the work comes to. Problem (409) if it was ended."""
        self._working = True
        try:
            return await work()
        except asyncio.CancelledError as error:
            if self._task is None or error.args != (_TAKEN_OVER,):
                raise
            self._task.uncancel()
            raise _under_way() from None
        finally:
            self._working = False


def is_final(answer: Answer) -> bool:
    """Whether an answer settles a call. A failure of the server, or one that says to come back, does not."""
    if answer.status < HTTPStatus.BAD_REQUEST:
        return True
    own = answer.body.raw_headers if is_response(answer.body) else []
    comes_back = answer.status in _ASK_AGAIN or any(name == b"retry-after" for name, _ in [*answer.headers, *own])
    return answer.status < HTTPStatus.INTERNAL_SERVER_ERROR and not comes_back


def _replay(answer: Answer) -> Answer:
    answer.headers.append(_REPLAYED)
    return answer


def _under_way(headers: Mapping[str, str] | None = None) -> Problem:
    return Problem(
        409,
        headers={"Retry-After": _RETRY_SECONDS, **(headers or {})},
        detail="a call with the same key is under way; ask again for its answer",
    )


async def _parts_of(request: Request, body: bytes | Form) -> list[str | bytes]:
    """What tells one body from another: its bytes; of a form what it says, for its boundary is another each time."""
    if isinstance(body, bytes):
        return [await request.body()]
    parts: list[str | bytes] = []
    for name, values in body.items():
        for value in values:
            if isinstance(value, str):
                parts += [name, value]
            else:
                parts += [name, value.filename or "", value.content_type or "", await _digest_of_file(value)]
    return parts


async def _digest_of_file(file: "UploadFile") -> str:
    digest = ""
    while chunk := await file.read(_CHUNK_BYTES):
        digest = digest_of(digest, chunk)
    await file.seek(0)
    return digest
