"""/_/limits: what bounds functions, who waits for that, and whether breakers are open.

Called by the admin API. Of all processes, but for `process`: what this one has counted.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from runtime.base.errors import Problem
from runtime.declare.registry import Function
from runtime.invoke.limits.guard import Counts
from runtime.invoke.limits.rules import limits_of
from runtime.ledger.limits.views import LimitsView, views
from runtime.triggers.http.answers import Answer, answer_of
from runtime.triggers.http.core import Call, Endpoint, Site


def limit_routes(site: Site) -> Iterator[tuple[str, str, Endpoint]]:
    """(method, path, endpoint) of each."""
    later = site.later

    def limited() -> dict[str, Function]:
        catalogue = later.at_hand().registry
        functions = {} if catalogue is None else catalogue().whole().functions
        return {name: one for name, one in functions.items() if limits_of(one) is not None or one.policy.has_fallback}

    async def shown(functions: Mapping[str, Function]) -> list[dict[str, Any]]:
        found = await later.ask(lambda ledger: views(ledger, list(functions))) if functions else []
        counts = site.counts()
        return [_show(functions[view.function], view, counts.get(view.function)) for view in found]

    async def all_limits(_: Call) -> Answer:
        return answer_of({"limits": await shown(limited())})

    async def limits_of_one(call: Call) -> Answer:
        name = call.request.path_params["function"]
        function = limited().get(name)
        if function is None:
            raise Problem(404, detail=f"there is no function {name[:100]} with limits or a fallback")
        return answer_of((await shown({name: function}))[0])

    yield "GET", "/_/limits", Endpoint(handle=all_limits, public=False, action="read")
    yield "GET", "/_/limits/{function}", Endpoint(handle=limits_of_one, public=False, action="read")


def _show(function: Function, view: LimitsView, counts: Counts | None) -> dict[str, Any]:
    """One function, as its code and settings bound it here and now."""
    policy, rate = function.policy, function.policy.rate
    shown = {
        "function": function.name,
        "concurrency": policy.concurrency,
        "rate": {"count": rate.count, "seconds": rate.seconds, "burst": rate.burst} if rate else None,
        "keyed": policy.key is not None,
        "fallback": policy.has_fallback,
        "held": view.held,
        "callers": view.callers,
        "waiting": view.waiting,
        "keys": view.keys,
        "top": view.top or None,
        "breaker": _breaker(function, view),
        "process": msgspec.structs.asdict(counts) if counts is not None else None,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _breaker(function: Function, view: LimitsView) -> dict[str, Any] | None:
    said = function.policy.breaker
    if said is None:
        return None
    return {
        "state": view.breaker,
        "failures": said.failures,
        "reset_seconds": said.reset_seconds,
        "open_seconds": round(view.open_seconds, 3),
    }
