"""The runtime's own endpoints under /_/: health, readiness, the OpenAPI document, calling a function by its name.

Added to the core's route table by roles, so that routing and access see them as they see functions.
"""

from collections.abc import Awaitable, Callable
from functools import cache
from importlib.metadata import version
from typing import Any

from runtime.admin.pages import add_docs
from runtime.base.errors import DeclarationError, InputError, Problem
from runtime.base.settings import HttpSettings
from runtime.declare.registry import Function, Registry
from runtime.invoke.binding import PayloadPlan
from runtime.invoke.invocation import Invocation
from runtime.triggers.http.answers import Answer, answer_of, plan_result
from runtime.triggers.http.core import Call, Endpoint, HttpCore, Invokes, answer_outcome
from runtime.triggers.http.openapi import describe

VERSION = version("fnrun")


def add_api(core: HttpCore, registry: Registry, invoker: Invokes, settings: HttpSettings) -> None:
    """Route the endpoints under /_/."""
    document = cache(lambda: describe(registry, settings, VERSION))  # made when first asked for, not at start

    async def health(_: Call) -> Answer:
        return answer_of({"status": "ok", "version": VERSION})

    async def ready(_: Call) -> Answer:
        if core.draining:
            raise Problem(503, headers={"Retry-After": "2"}, detail="the server is shutting down")
        return answer_of({"status": "ready"})

    async def openapi(_: Call) -> Answer:
        return answer_of(document())

    public = settings.auth == "public"
    core.add_system("GET", "/_/health", Endpoint(handle=health, public=True, action="read", open=True))
    core.add_system("GET", "/_/ready", Endpoint(handle=ready, public=True, action="read", open=True))
    core.add_system("GET", "/_/openapi.json", Endpoint(handle=openapi, public=public, action="read"))
    add_docs(core, settings)
    for function in registry.functions.values():
        endpoint = Endpoint(
            handle=_invoke_by_name(function, invoker, settings), public=False, action="invoke", function=function.name
        )
        core.add_system("POST", f"/_/functions/{function.name}/invoke", endpoint)


def _invoke_by_name(
    function: Function, invoker: Invokes, settings: HttpSettings
) -> Callable[[Call], Awaitable[Answer]]:
    """POST one JSON object of arguments by name; answered as the function's own route would."""
    result = plan_result(function)
    timeout_seconds = function.policy.timeout_seconds or float(settings.timeout)
    try:
        plan = PayloadPlan(function)
    except DeclarationError as error:
        reason = str(error)

        async def refuse(_: Call) -> Answer:
            raise InputError(422, reason)

        return refuse

    async def invoke(call: Call) -> Answer:
        call.request.max_body = settings.max_body
        arguments: dict[str, Any] = plan.bind(await call.request.body())
        invocation = Invocation(
            function=function,
            trigger="api",
            arguments=arguments,
            run_id=call.run_id,
            trace=call.trace,
            timeout_seconds=timeout_seconds,
        )
        return await answer_outcome(call, await invoker.invoke(invocation), function, result)

    return invoke
