"""`fnrun alerts`: what fires, and whether a message arrives; in the project's own store or on a running system."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from runtime.cli.printing import plain, print_json, print_table, to_second
from runtime.cli.systems import System, asked, for_systems, open_system

_PATIENCE_SECONDS = 20.0
_LOOK_SECONDS = 0.3


@click.group()
def alerts() -> None:
    """See which alerts fire, and try whether they arrive."""


@alerts.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known, as JSON.")
@for_systems
@click.pass_obj
def list_alerts(root: Path, /, as_json: bool, **where: str | None) -> None:
    """Show every alert, what fires, and what could not be told."""
    with open_system(root, where) as system:
        found = asked(system.ask("GET", "/_/alerts"))
    if as_json:
        print_json(found)
        return
    print_table(
        ("ALERT", "WHEN", "STATE", "TELLS", "FIRING"),
        [
            (one["name"], one["when"], one["state"], ",".join(one["tells"]) or "the log", _firings(one["firings"]))
            for one in found["alerts"]
        ],
    )
    if found["alerts"] and not found["looked_at_by"]:
        click.echo("Nobody looks at them: no process of this system runs, or it has not begun yet.", err=True)
    for one in found["waiting"]:
        if one["tries"]:
            said = f"not told yet: {one['alert']} by {one['channel']}, tried {one['tries']} times: {one['error']}"
            click.echo(plain(said), err=True)


def _firings(found: list[dict[str, Any]]) -> str:
    return plain(", ".join(one.get("function") or one.get("queue") or to_second(one["since"]) for one in found[:5]))


@alerts.command("test")
@click.argument("name")
@for_systems
@click.pass_obj
def test_alert(root: Path, /, name: str, **where: str | None) -> None:
    """Send a message as the alert would, and say whether it arrived. A process of the system sends it."""
    with open_system(root, where) as system:
        sent = asked(system.ask("POST", f"/_/alerts/{quote(name, safe='')}/test", body=b""))
        faults = [_outcome(system, sent["id"], channel) for channel in sent["channels"]]
    if any(faults):
        raise click.ClickException("; ".join(fault for fault in faults if fault))


def _outcome(system: System, message_id: str, channel: str) -> str:
    """Wait for what comes of it, and say it; "" if all is well."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        found = asked(system.ask("GET", "/_/alerts"))
        ended = [one for one in found["recent"] if (one["id"], one["channel"]) == (message_id, channel)]
        waits = [one for one in found["waiting"] if (one["id"], one["channel"]) == (message_id, channel)]
        if ended and ended[0]["outcome"] == "sent":
            click.echo(f"{channel}: told")
            return ""
        if ended or (waits and waits[0]["tries"]):
            return plain(f"{channel}: {(ended or waits)[0]['error']}")
        if time.monotonic() > until:
            why = _why_not_sent(found, waits, channel)
            return plain(f"{channel}: it was not sent within {_PATIENCE_SECONDS:g} s{why}")
        time.sleep(_LOOK_SECONDS)


def _why_not_sent(found: dict[str, Any], waits: list[dict[str, Any]], channel: str) -> str:
    """Nobody sends, or another is first: messages of an alert come in their order."""
    if not found["looked_at_by"]:
        return "; no process of this system runs that would send it"
    lane = [(one["alert"], channel) for one in waits]
    before = [one for one in found["waiting"] if (one["alert"], one["channel"]) in lane and one["tries"]]
    if not before:
        return ""
    first, at = before[0], to_second(before[0]["due_at"])
    return f"; it waits behind one that was tried {first['tries']} times, and is again at {at}: {first['error']}"
