"""/_/alerts: the rules, what fires, what was told; and a message on trial.

Called by the admin API. The rules are those of this process's settings; what is known of them is in the store.
"""

from collections.abc import Iterator
from typing import Any

from runtime.admin.shown import rfc3339
from runtime.alerts.book import Book, Delivered, Parcel, Shown
from runtime.alerts.judging import RuleState, Subject
from runtime.alerts.messages import trial_of
from runtime.alerts.rules import Rule, rules_of
from runtime.base.errors import Problem, did_you_mean
from runtime.base.ids import new_run_id
from runtime.triggers.http.answers import Answer, ResultPlan, answer_of
from runtime.triggers.http.core import Call, Endpoint
from runtime.triggers.http.durable import Later


def alert_routes(later: Later) -> Iterator[tuple[str, str, Endpoint]]:
    """(method, path, endpoint) of each."""

    def rules() -> dict[str, Rule]:
        return rules_of(later.at_hand().settings)

    async def alerts(_: Call) -> Answer:
        known = rules()
        return answer_of(_show(known, await later.ask(lambda ledger: Book(ledger).show())))

    async def test(call: Call) -> Answer:
        name, known = call.request.path_params["name"], rules()
        rule = known.get(name)
        if rule is None:
            hint = did_you_mean(name, tuple(known)) or "; it is not in functions.toml, or not enabled"
            raise Problem(404, detail=f'there is no alert "{name[:100]}"{hint}')
        if not rule.channels.names:
            raise Problem(409, detail=f"{name} tells nobody: give it a webhook, a command or a run in functions.toml")
        message = trial_of(rule, new_run_id(), later.at_hand().ledger.now())
        await later.ask(lambda ledger: Book(ledger).post(message))
        told = {"id": message.id, "alert": name, "channels": list(message.channels)}
        return answer_of(told, ResultPlan(status=202))

    yield "GET", "/_/alerts", Endpoint(handle=alerts, public=False, action="read")
    yield "POST", "/_/alerts/{name}/test", Endpoint(handle=test, public=False, action="admin")


def _show(rules: dict[str, Rule], shown: Shown) -> dict[str, Any]:
    return {
        "looked_at_by": shown.holder or None,
        "alerts": [_rule(rule, shown.states.get(name, RuleState())) for name, rule in rules.items()],
        "waiting": [_waiting(one) for one in shown.waiting],
        "recent": [_delivered(one) for one in shown.recent],
    }


def _rule(rule: Rule, state: RuleState) -> dict[str, Any]:
    phases = {one.phase for one in state.subjects.values()}
    firing = {name: one for name, one in state.subjects.items() if one.is_firing}
    about = {} if rule.about == "system" or rule.pattern == "*" else {rule.about: rule.pattern}
    return {
        "name": rule.name,
        "when": str(rule.when),
        **about,
        "tells": list(rule.channels.names),
        "state": "firing" if firing else "pending" if "pending" in phases else "ok",
        "firings": [_firing(rule, name, one) for name, one in firing.items()],
    }


def _firing(rule: Rule, name: str, one: Subject) -> dict[str, Any]:
    shown = {
        "id": one.id,
        rule.about: name or None,
        "value": one.value,
        "detail": one.detail or None,
        "since": rfc3339(one.fired_at),
        "clearing": one.phase == "clearing" or None,
    }
    return {key: value for key, value in shown.items() if value is not None}


def _waiting(one: Parcel) -> dict[str, Any]:
    return {
        "id": one.message_id,
        "alert": one.rule,
        "event": one.event,
        "channel": one.channel,
        "made_at": rfc3339(one.made),
        "due_at": rfc3339(one.due),
        "tries": one.tries,
        "error": one.error,
    }


def _delivered(one: Delivered) -> dict[str, Any]:
    return {
        "id": one.id,
        "alert": one.rule,
        "event": one.event,
        "channel": one.channel,
        "outcome": one.outcome,
        "at": rfc3339(one.at),
        "tries": one.tries,
        "error": one.error,
    }
