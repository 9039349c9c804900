"""The runtime's own endpoints under /_/: health, readiness, the OpenAPI document, calling a function by its name.

Put into the core's route table by roles, so that routing and access see them as they see functions.
"""

from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from importlib.metadata import version
from typing import Any

from runtime.admin.pages import docs_route
from runtime.base.errors import DeclarationError, InputError, Problem
from runtime.base.settings import HttpSettings
from runtime.declare.registry import RUNNING_TRIGGERS, Function, Registry
from runtime.declare.triggers import Http, Trigger
from runtime.invoke.binding import PayloadPlan
from runtime.invoke.invocation import Invocation
from runtime.triggers.http.answers import Answer, answer_of, plan_result
from runtime.triggers.http.core import Call, Endpoint, HttpCore, Site, answer_outcome
from runtime.triggers.http.openapi import describe

VERSION = version("fnrun")


Route = tuple[str, str, Endpoint]


def system_routes(core: HttpCore, registry: Registry, settings: HttpSettings) -> Iterator[Route]:
    """(method, path, endpoint) of each of the runtime's own endpoints, but for those of single functions."""
    document = cache(lambda: describe(registry, settings, VERSION))  # made when first asked for, not at start

    async def health(_: Call) -> Answer:
        return answer_of({"status": "ok", "version": VERSION})

    async def ready(_: Call) -> Answer:
        if core.draining:
            raise Problem(503, headers={"Retry-After": "2"}, detail="the server is shutting down")
        return answer_of({"status": "ready"})

    async def openapi(_: Call) -> Answer:
        return answer_of(document())

    async def functions(_: Call) -> Answer:
        return answer_of(_overview(registry, settings))

    public = settings.auth == "public"
    yield "GET", "/_/health", Endpoint(handle=health, public=True, action="read", open=True)
    yield "GET", "/_/ready", Endpoint(handle=ready, public=True, action="read", open=True)
    yield "GET", "/_/openapi.json", Endpoint(handle=openapi, public=public, action="read")
    yield "GET", "/_/functions", Endpoint(handle=functions, public=False, action="read")
    yield docs_route(settings)


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
    return {"kind": trigger.kind, "rule": str(trigger), "running": isinstance(trigger, RUNNING_TRIGGERS)}


def invoke_route(function: Function, site: Site) -> Route:
    """POST one JSON object of arguments by name; answered as the function's own route would."""
    handle = _invoke_by_name(function, site)
    endpoint = Endpoint(handle=handle, public=False, action="invoke", function=function.name)
    return "POST", f"/_/functions/{function.name}/invoke", endpoint


def _invoke_by_name(function: Function, site: Site) -> Callable[[Call], Awaitable[Answer]]:
    result = plan_result(function)
    timeout_seconds = function.policy.timeout_seconds or float(site.settings.timeout)
    try:
        plan = PayloadPlan(function)
    except DeclarationError as error:
        reason = str(error)

        async def refuse(_: Call) -> Answer:
            raise InputError(422, reason)

        return refuse

    async def invoke(call: Call) -> Answer:
        call.request.max_body = site.settings.max_body
        arguments: dict[str, Any] = plan.bind(await call.request.body())
        invocation = Invocation(
            function=function,
            trigger="api",
            arguments=arguments,
            run_id=call.run_id,
            trace=call.trace,
            timeout_seconds=timeout_seconds,
        )
        return await answer_outcome(
            call, await site.invoker.invoke(invocation), function, result, site.lifespan, float(site.settings.timeout)
        )

    return invoke
