"""The runtime's own endpoints under /_/: the OpenAPI document, functions by their names; and where all others come in.

Put into the core's route table by roles when the first of them is asked for, so that routing and access see them as
they see functions. Those of health are there from the start.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from typing import Any

from runtime.admin.access.keys import access_routes
from runtime.admin.access.recording import recorded
from runtime.admin.alerts import alert_routes
from runtime.admin.background import background_routes
from runtime.admin.callbacks import callback_routes
from runtime.admin.limits import limit_routes
from runtime.admin.logs import log_routes
from runtime.admin.metrics.routes import metrics_routes
from runtime.admin.metrics.stats import stats_route
from runtime.admin.pages import docs_route
from runtime.admin.queues import queue_routes
from runtime.admin.runs import run_routes
from runtime.admin.schedules import schedule_routes
from runtime.base import __version__
from runtime.base.errors import DeclarationError, InputError
from runtime.base.sections import HttpSettings
from runtime.declare.registry import Function, Registry
from runtime.declare.triggers import Http, Trigger
from runtime.invoke.binding import PayloadPlan
from runtime.invoke.invocation import Invocation
from runtime.triggers.http.answers import Answer, answer_of, plan_result
from runtime.triggers.http.core import Call, Endpoint, HttpCore, Site, work_of
from runtime.triggers.http.durable import plan_later
from runtime.triggers.http.once import OnceRoute, Worked, carry_out
from runtime.triggers.http.openapi import describe
from runtime.triggers.http.outcomes import OutcomePlan
from runtime.triggers.http.spans import traced

Route = tuple[str, str, Endpoint]


def system_routes(core: HttpCore, registry: Registry, site: Site) -> Iterator[Route]:
    """(method, path, endpoint) of each of the runtime's own endpoints, but for health and those of single functions."""
    yield from recorded(_system_routes(core, registry, site), core.access, site.later)


def _system_routes(core: HttpCore, registry: Registry, site: Site) -> Iterator[Route]:
    settings = site.settings
    document = cache(lambda: describe(registry, settings, __version__))  # made when first asked for, not at start

    async def openapi(_: Call) -> Answer:
        return answer_of(await asyncio.to_thread(document))  # of a thousand functions it takes a while

    async def functions(_: Call) -> Answer:
        return answer_of(_overview(registry, settings))

    public = settings.auth == "public"
    yield "GET", "/_/openapi.json", Endpoint(handle=openapi, public=public, action="read")
    yield "GET", "/_/functions", Endpoint(handle=functions, public=False, action="read")
    yield docs_route(settings)
    yield from run_routes(core.access, registry, site)
    yield from log_routes(site)
    yield from queue_routes(site.later)
    yield from callback_routes(site.later)
    yield from limit_routes(site)
    yield from metrics_routes(site.desk, __version__)
    yield stats_route(site.later)
    yield from schedule_routes(site.later)
    yield from alert_routes(site.later)
    yield from background_routes()
    yield from access_routes(site.later)


def _overview(registry: Registry, settings: HttpSettings) -> dict[str, Any]:
    """What `fnrun list` prints, as JSON."""
    return {
        "functions": [
            {
                "name": function.name,
                "summary": function.summary,
                "file": function.file,
                "line": function.line,
                "kind": function.kind,
                "triggers": [_trigger(function, trigger, settings) for trigger in function.triggers],
            }
            for function in registry.functions.values()
        ],
        "disabled": registry.disabled,
        "failures": registry.failures,
    }


def _trigger(function: Function, trigger: Trigger, settings: HttpSettings) -> dict[str, Any]:
    if isinstance(trigger, Http):
        auth = trigger.auth or settings.auth
        return {"kind": "http", "methods": trigger.methods, "path": function.route(trigger), "auth": auth}
    return {"kind": trigger.kind, "rule": str(trigger)}


def invoke_route(function: Function, site: Site, trigger: str = "api") -> Route:
    """POST one JSON object of arguments by name; answered as the function's own route would."""
    path = f"/_/functions/{function.name}/invoke"
    made = cache(lambda: _invoke_by_name(function, site, trigger))  # 0.15 ms a function, and few are asked

    async def invoke(call: Call) -> Answer:
        return await made()(call)

    handle = traced(invoke, function.name, path)
    endpoint = Endpoint(handle=handle, public=False, action="invoke", function=function.name, work=work_of(function))
    return "POST", path, endpoint


def _invoke_by_name(function: Function, site: Site, trigger: str) -> Callable[[Call], Awaitable[Answer]]:
    result = plan_result(function)
    timeout_seconds = function.policy.timeout_seconds or float(site.settings.timeout)
    try:
        plan = PayloadPlan(function)
    except DeclarationError as error:
        reason = str(error)

        async def refuse(_: Call) -> Answer:
            raise InputError(422, reason)

        return refuse

    seconds = float(site.settings.timeout)
    answers = OutcomePlan(function=function, result=result, lifespan=site.lifespan, timeout_seconds=seconds)
    later = plan_later(function, result, site.later, trigger)
    once = OnceRoute(function, site.later, later, site.caller_of)

    async def invoke(call: Call) -> Answer:
        call.request.max_body = site.settings.max_body
        body = await call.request.body()
        arguments: dict[str, Any] = plan.bind(body)
        asked = await once.asked(call.request, body)
        if later is not None and (preference := later.preference_of(call.request)) is not None:
            await later.admit(call.request, preference)
            if asked is None:
                return await later.answer(call.run_id, call.trace, arguments, preference)
            return await once.answer_later(call.run_id, call.trace, arguments, preference, asked)

        async def work() -> Worked:
            invocation = Invocation(
                function=function,
                trigger=trigger,
                arguments=arguments,
                run_id=call.run_id,
                trace=call.trace,
                timeout_seconds=timeout_seconds,
            )
            outcome = await site.invoker.invoke(invocation)
            return await carry_out(answers.answer(call.request, call.run_id, outcome), outcome, call.run_id)

        return await once.answer(call.run_id, asked, arguments, work)

    return invoke
