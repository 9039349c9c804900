"""The HTTP core: a Request in, an Answer out, without an ASGI scope.

Called by the shell. Compiles each route once; a request then costs one look-up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol

import msgspec

from runtime.base.errors import InputError, Problem
from runtime.base.ids import Trace, trace_of
from runtime.base.logs import get_logger
from runtime.base.sections import HttpSettings
from runtime.declare.lifespan import Lifespan
from runtime.declare.registry import Function
from runtime.declare.request import Request
from runtime.declare.triggers import Http
from runtime.invoke.binding import BindingFailed, HttpPlan
from runtime.invoke.invocation import Invocation, Outcome
from runtime.invoke.limits.guard import Counts
from runtime.invoke.readers import Form
from runtime.ledger.desk import Desk
from runtime.observe import traces
from runtime.triggers.http.access import Access, Action
from runtime.triggers.http.answers import Answer, Parts, plan_result, problem_answer
from runtime.triggers.http.bodies import close_files, read_body
from runtime.triggers.http.durable import REFUSALS, Later, plan_later, refusal_of
from runtime.triggers.http.once import OnceRoute, Worked, carry_out
from runtime.triggers.http.outcomes import OutcomePlan
from runtime.triggers.http.prefer import VARY
from runtime.triggers.http.routes import Match, RouteTable
from runtime.triggers.http.shedding.overload import Work
from runtime.triggers.http.short import Short, short_of
from runtime.triggers.http.signed import SignedRoute
from runtime.triggers.http.spans import traced
from runtime.triggers.http.wire.link import Link

log = get_logger(__name__)

_DRAINING_RETRY_SECONDS = "2"
_CANCELLED = frozenset({"GET", "HEAD"})
_LEFT = "the client went away"


class Invokes(Protocol):
    """What the core needs of the invoker."""

    async def invoke(self, invocation: Invocation) -> Outcome:
        """See Invoker.invoke."""


class Call(msgspec.Struct):
    """A request on its way, with the identity every answer to it carries. link: None where no client can leave.

    function: whose route it is, once that is known; "" for the runtime's own.
    """

    request: Request
    run_id: str
    trace: Trace
    link: Link | None = None
    function: str = ""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What answers one method of one route. public: needs no key. open: nor anything else, even while draining.

    ask_key: the answer instead of a 401, for a page that asks people for the key; may raise the refusal again.
    work: what it will hold, where that counts in an overload. short: answers what needs nothing but its handler.
    """

    handle: Callable[[Call], Awaitable[Answer]]
    public: bool
    action: Action
    function: str = ""
    open: bool = False
    short: "Short | None" = None
    ask_key: Callable[[Request, Problem], Answer] | None = None
    work: Work = "none"


class Site(msgspec.Struct, frozen=True):
    """What all routes of a process share.

    access: None where all callers are one. counts: of functions with limits. signing: secrets of signed calls.
    """

    invoker: Invokes
    settings: HttpSettings
    lifespan: Lifespan = Lifespan()
    later: Later = Later()
    access: Access | None = None
    counts: Callable[[], Mapping[str, Counts]] = dict
    signing: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether all callers are of this machine, and need neither key nor signature."""
        return self.access is not None and self.access.is_local

    @property
    def desk(self) -> Desk | None:
        """The way to the ledger; None where there is no store."""
        return self.later.desk

    async def caller_of(self, request: Request) -> str:
        """Whose request it is: of two of different callers, never the same."""
        return await self.access.caller_of(request) if self.access is not None else ""


class HttpCore:
    """table: what answers which path; it may be changed for another at any time. draining: only health answers."""

    def __init__(self, access: Access) -> None:
        self.table: RouteTable[Endpoint] = RouteTable()
        self.draining = False
        self.access = access

    def work_of(self, method: str, path: str) -> Work:
        """What a request will hold. While draining nothing: what it is told then costs little and matters more."""
        match = None if self.draining else self.table.at(path, method)
        if match is None:
            return "none" if self.draining else "loop"
        endpoint = match.endpoints.get("GET" if method == "HEAD" else method)
        return "loop" if endpoint is None else endpoint.work

    async def handle(self, request: Request, run_id: str, link: Link | None = None) -> Answer:
        """The answer to a request; never raises, but for the cancellation of its caller."""
        call = Call(request, run_id, trace_of(run_id, request.header(b"traceparent")), link)
        return await self.answered(call, self._route(call))

    async def answered(self, call: Call, answering: Awaitable[Answer]) -> Answer:
        """The answer that this comes to, or the one to what it raises; with what all answers carry."""
        request, run_id = call.request, call.run_id
        try:
            answer = await answering
        except (Problem, InputError) as error:
            answer = problem_answer(run_id, error)
        except REFUSALS as error:
            answer = problem_answer(run_id, refusal_of(error))
        except BindingFailed as error:
            log.exception("arguments cannot be made", run_id=run_id, path=request.path)
            answer = problem_answer(run_id, Problem(500, detail=str(error)))
        except ConnectionError:
            raise
        except Exception:  # a fault of ours, answered like any other
            log.exception("request failed inside the runtime", run_id=run_id, path=request.path)
            answer = problem_answer(run_id, Problem(500, detail="a fault of the runtime; its log has the run id"))
        answer.run_id, answer.function = run_id, call.function
        answer.headers.append((b"x-run-id", run_id.encode()))
        if request.header(b"traceparent") is not None:
            answer.headers.append((b"traceparent", call.trace.traceparent.encode()))
        if request.method == "HEAD":
            await _drop_body(answer)
        return answer

    def short_of(self, request: Request) -> "Short | None":
        """What answers a request on the short way, if that is open to it: by path and key, as `_route` sees them."""
        match = None if self.draining else self.table.at(request.path, request.method)
        endpoint = None if match is None else match.endpoints.get(request.method)
        if match is None or endpoint is None or endpoint.short is None:
            return None
        if match.values:
            request.path_params = match.params(request.method)
        public, action, function = endpoint.public, endpoint.action, endpoint.function
        admitted = self.access.admits(request, public=public, action=action, function=function)
        return endpoint.short if admitted else None

    async def _route(self, call: Call) -> Answer:
        request = call.request
        match = self.table.find(request.path, request.method)
        if match is None:
            raise Problem(404, detail=f"nothing answers {request.path}")
        endpoint = match.endpoints.get(request.method)
        if endpoint is None and request.method == "HEAD":
            endpoint = match.endpoints.get("GET")
        if endpoint is None:
            return _answer_without_endpoint(request, match)
        call.function = endpoint.function
        if self.draining and not endpoint.open:
            raise Problem(
                503,
                headers={"Retry-After": _DRAINING_RETRY_SECONDS, "Connection": "close"},
                detail="the server is shutting down",
            )
        public, action, function = endpoint.public, endpoint.action, endpoint.function
        if not endpoint.open and not self.access.admits(request, public=public, action=action, function=function):
            try:
                await self.access.admit(request, public=public, action=action, function=function)
            except Problem as refusal:
                if endpoint.ask_key is None or refusal.status != HTTPStatus.UNAUTHORIZED:
                    raise
                return endpoint.ask_key(request, refusal)
        method = request.method if request.method in match.endpoints else "GET"
        request.path_params = match.params(method)
        return await endpoint.handle(call)


def work_of(function: Function) -> Work:
    """What a call of the function holds."""
    return "thread" if function.kind in ("sync", "sync stream") and function.policy.isolation is None else "loop"


def function_routes(function: Function, site: Site) -> Iterator[tuple[str, str, Endpoint]]:
    """(method, path, endpoint) of each of a function's routes."""
    for trigger in function.triggers:
        if isinstance(trigger, Http):
            for method in trigger.methods:
                route = _FunctionRoute(function, trigger, method, site)
                endpoint = Endpoint(
                    handle=traced(route.handle, function.name, function.route(trigger)),
                    short=route.short,
                    public=(trigger.auth or site.settings.auth) != "key",  # a signature is checked with its body
                    action="invoke",
                    function=function.name,
                    work=work_of(function),
                )
                yield method, function.route(trigger), endpoint


class _FunctionRoute:
    """One method of one route of a function: everything decided at load, `handle` run for each request."""

    def __init__(self, function: Function, trigger: Http, method: str, site: Site) -> None:
        self._function = function
        self._site = site
        self._invoke = site.invoker.invoke
        self._plan = HttpPlan(function, trigger, method)
        result = plan_result(function, trigger.status)
        seconds = float(site.settings.timeout)
        self._answers = OutcomePlan(function=function, result=result, lifespan=site.lifespan, timeout_seconds=seconds)
        self._later = plan_later(function, result, site.later, "http")
        self._once = OnceRoute(function, site.later, self._later, site.caller_of)
        self._varies = method == "GET" and self._later is not None
        self._max_body = trigger.max_body_bytes or site.settings.max_body
        said = trigger.timeout_seconds or function.policy.timeout_seconds
        # A stream of events may well be quiet: it has a limit only where one is said.
        self._timeout_seconds = said if said or function.yields_events else float(site.settings.timeout)
        self.handle: Callable[[Call], Awaitable[Answer]] = self._answer
        """Check a signature, bind, invoke, answer. Raises Problem or InputError."""
        if (trigger.auth or site.settings.auth) == "signed":
            secrets = function.signing or site.signing
            signed = SignedRoute(function, secrets, site.later, locally=lambda: site.is_local)
            self.handle = partial(self._check_and_answer, signed)
        self.short: Short | None = None
        self._cancels = trigger.on_disconnect == "cancel" or (trigger.on_disconnect is None and method in _CANCELLED)
        if self.handle == self._answer and not self._once.has_key and traces.active is None:
            self.short = short_of(
                site.invoker, function=function, plan=self._plan, answers=self._answers, cancels=self._cancels,
                max_body=self._max_body, timeout_seconds=self._timeout_seconds, varies=self._varies,
            )  # fmt: skip

    async def _check_and_answer(self, signed: SignedRoute, call: Call) -> Answer:
        call.request.max_body = self._max_body
        return await signed.answer(call.request, call.run_id, partial(self._answer, call))

    async def _answer(self, call: Call) -> Answer:
        request = call.request
        request.max_body = self._max_body
        if not self._plan.needs_body:
            if call.link is not None and not self._plan.takes_request:
                call.link.drop_body()
            found = await self._call(call, b"")
            if self._varies:
                found.headers.append(VARY)  # of each answer, whatever was preferred (RFC 7240, 2)
            return found
        body = await read_body(request, self._plan)
        answer = None
        try:
            answer = await self._call(call, body)
        finally:
            if isinstance(body, dict):
                if answer is not None and isinstance(answer.body, Parts):
                    answer.body.on_close = partial(close_files, body)  # its handler may still read them
                else:
                    await close_files(body)
        return answer

    async def _call(self, call: Call, body: bytes | Form) -> Answer:
        request, once = call.request, self._once
        arguments = self._plan.bind(request, body)
        asked = await once.asked(request, body)
        if self._later is not None and (preference := self._later.preference_of(request)) is not None:
            await self._later.admit(request, preference)
            if asked is None:
                return await self._later.answer(call.run_id, call.trace, arguments, preference)
            return await once.answer_later(call.run_id, call.trace, arguments, preference, asked)
        if asked is None and not once.has_key:
            outcome = await self._outcome(call, arguments)
            return await self._answers.answer(request, call.run_id, outcome)

        async def work() -> Worked:
            outcome = await self._outcome(call, arguments)
            return await carry_out(self._answers.answer(request, call.run_id, outcome), outcome, call.run_id)

        return await once.answer(call.run_id, asked, arguments, work)

    async def _outcome(self, call: Call, arguments: dict[str, Any]) -> Outcome:
        invocation = Invocation(
            function=self._function,
            trigger="http",
            arguments=arguments,
            run_id=call.run_id,
            trace=call.trace,
            timeout_seconds=self._timeout_seconds,
        )
        link = call.link if self._cancels else None
        return await (self._invoke(invocation) if link is None else self._invoke_watched(link, invocation))

    async def _invoke_watched(self, link: Link, invocation: Invocation) -> Outcome:
        """Invoke, but cancel the handler when the client goes away; then raise ConnectionResetError."""
        task = asyncio.current_task()
        if task is None:
            return await self._invoke(invocation)
        end_watch = link.watch(partial(task.cancel, _LEFT))
        try:
            return await self._invoke(invocation)
        except asyncio.CancelledError as error:
            if error.args != (_LEFT,):
                raise
            task.uncancel()
            log.info("client left, handler cancelled", function=self._function.name, run_id=invocation.run_id)
            raise ConnectionResetError(_LEFT) from None
        finally:
            end_watch()


def _answer_without_endpoint(request: Request, match: Match[Endpoint]) -> Answer:
    methods = set(match.endpoints) | {"OPTIONS"} | ({"HEAD"} if "GET" in match.endpoints else set())
    allow = ", ".join(sorted(methods))
    if request.method == "OPTIONS":
        return Answer(204, [(b"allow", allow.encode())], b"")
    raise Problem(405, headers={"Allow": allow}, detail=f"{request.path} answers {allow}")


async def _drop_body(answer: Answer) -> None:
    """HEAD: what GET would answer, without its body. Starlette's own Responses see to it themselves."""
    if isinstance(answer.body, bytes):
        answer.body = b""
    elif isinstance(answer.body, Parts):
        await answer.body.aclose()
        answer.body = b""
