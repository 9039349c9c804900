"""`fnrun schedules`: look at schedules, change and run them, in the project's own store or on a running system."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click

from runtime.cli.printing import fire_line, plain, print_fields, print_json, print_table, to_second
from runtime.cli.systems import Query, System, asked, for_systems, open_system

F = TypeVar("F", bound=Callable[..., Any])

_PAGE = 1000


@click.group()
def schedules() -> None:
    """Look at schedules, pause, change, run and backfill them. One is named by its id, or by its function."""


def _looking(fires: int) -> Callable[[F], F]:
    def add_all(command: F) -> F:
        command = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
        fired = click.IntRange(0, 100)
        command = click.option("--next", "fires", type=fired, default=fires, show_default=True, help="Fires to show.")(
            command
        )
        return for_systems(command)

    return add_all


@schedules.command("list")
@click.option("--function", "functions", multiple=True, help="May be given several times.")
@_looking(1)
@click.pass_obj
def list_schedules(root: Path, /, functions: Sequence[str], fires: int, as_json: bool, **where: str | None) -> None:
    """Show schedules, and when each fires next."""
    with _system(root, where) as system:
        found = _all(system, functions, fires)
    if as_json:
        print_json(found)
    elif fires > 1:
        for one in found:
            _print_fires(one)
    else:
        print_table(
            ("ID", "FUNCTION", "RULE", "NEXT", "LAST", ""),
            [
                (
                    one["id"], one["function"], _rule(one), _next(one), to_second(one["last_planned_at"] or "-"),
                    ", ".join(_notes(one)),
                )
                for one in found
            ],
        )  # fmt: skip


@schedules.command("show")
@click.argument("schedule")
@_looking(5)
@click.pass_obj
def show_schedule(root: Path, /, schedule: str, fires: int, as_json: bool, **where: str | None) -> None:
    """Show all that is known of a schedule."""
    with _system(root, where) as system:
        one = asked(system.ask("GET", _path(schedule), query={"next": fires}))
    if as_json:
        print_json(one)
    else:
        _print_one(one)


@schedules.command("pause")
@click.argument("schedule")
@for_systems
@click.pass_obj
def pause_schedule(root: Path, /, schedule: str, **where: str | None) -> None:
    """Have it fire no more, until it is resumed; what runs goes on."""
    _turn(root, schedule, "pause", where)


@schedules.command("resume")
@click.argument("schedule")
@for_systems
@click.pass_obj
def resume_schedule(root: Path, /, schedule: str, **where: str | None) -> None:
    """Have it fire again. What passed meanwhile is not made up for."""
    _turn(root, schedule, "resume", where)


@schedules.command("run")
@click.argument("schedule")
@for_systems
@click.pass_obj
def run_schedule(root: Path, /, schedule: str, **where: str | None) -> None:
    """Run it once, now, with its payload; print the run's id."""
    with _system(root, where) as system:
        click.echo(asked(system.ask("POST", _path(schedule, "run"), body=b""))["id"])


def _rule_options(command: F) -> F:
    for add in (
        click.option("--window", help='How late a tick may be made up for: "1h".'),
        click.option("--jitter", help='Begin up to so much later: "30s".'),
        click.option("--overlap", help="skip, queue, allow, or a number: if earlier runs are at work."),
        click.option("--missed", help="skip, latest or all: ticks that nobody fired in time."),
        click.option("--payload", help="A JSON object of arguments by name."),
        click.option("--tz", help="The time zone of --cron."),
        click.option("--at", help="Once: a date with an offset."),
        click.option("--interval", help='Every so often: "15m".'),
        click.option("--cron", help='A cron rule: "0 6 * * mon-fri".'),
    ):
        command = add(command)
    return for_systems(command)


@schedules.command("set")
@click.argument("schedule")
@_rule_options
@click.pass_obj
def set_schedule(root: Path, /, schedule: str, url: str | None, key: str | None, **said: str | None) -> None:
    """Change a schedule, over restarts and deployments, until it is reset."""
    with _system(root, {"url": url, "key": key}) as system:
        _print_one(asked(system.ask("PATCH", _path(schedule), body=_body(said))))


@schedules.command("reset")
@click.argument("schedule")
@for_systems
@click.pass_obj
def reset_schedule(root: Path, /, schedule: str, **where: str | None) -> None:
    """Have a schedule be as it is declared again."""
    with _system(root, where) as system:
        _print_one(asked(system.ask("POST", _path(schedule, "reset"), body=b"")))


@schedules.command("add")
@click.argument("id")
@click.argument("function")
@_rule_options
@click.option("--timeout", help="Of its runs.")
@click.option("--replace", is_flag=True, help="Also in place of one that was added before.")
@click.pass_obj
def add_schedule(root: Path, /, replace: bool, url: str | None, key: str | None, **said: str | None) -> None:
    """Add a schedule, which lasts until it is removed."""
    with _system(root, {"url": url, "key": key}) as system:
        _print_one(asked(system.ask("POST", "/_/schedules", body=_body(said, replace=replace))))


@schedules.command("remove")
@click.argument("schedule")
@for_systems
@click.pass_obj
def remove_schedule(root: Path, /, schedule: str, **where: str | None) -> None:
    """Take away a schedule that was added."""
    with _system(root, where) as system:
        system.ask("DELETE", _path(schedule))
    click.echo(f"{schedule} removed")


@schedules.command("backfill")
@click.argument("schedule")
@click.option("--from", "start", required=True, help="The first time: a date, with or without a time, in its zone.")
@click.option("--to", "end", help="Ticks before this; now if left out.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@for_systems
@click.pass_obj
def backfill_schedule(
    root: Path, /, schedule: str, start: str, end: str | None, yes: bool, **where: str | None
) -> None:
    """Have a schedule's past ticks run; those that did are left alone. Says how many, and asks."""
    said: dict[str, Any] = {"from": start, "to": end}
    with _system(root, where) as system:
        path = _path(schedule, "backfill")
        found = asked(system.ask("POST", path, body=json.dumps({**said, "dry_run": True}).encode()))
        if not found["ticks"]:
            click.echo("no ticks are in that range")
            return
        what = f"{found['ticks']} tick{'s' if found['ticks'] > 1 else ''} of {found['id']}"
        if not yes:
            since, until = to_second(found["first_planned_at"]), to_second(found["last_planned_at"])
            click.confirm(f"run {what}, from {since} to {until} (UTC)?", abort=True, err=True)
        found = asked(system.ask("POST", path, body=json.dumps(said).encode()))
    click.echo(f"{found['new']} queued, {found['known']} had run already")


def _system(root: Path, where: Mapping[str, str | None]) -> Any:
    return open_system(root, where, whole=True)


def _turn(root: Path, schedule: str, verb: str, where: Mapping[str, str | None]) -> None:
    with _system(root, where) as system:
        found = asked(system.ask("POST", _path(schedule, verb), body=b""))
    click.echo(f"{found['id']} {verb}d" + ("" if found["changed"] else ", as it was before"))


def _all(system: System, functions: Sequence[str], fires: int) -> list[dict[str, Any]]:
    """Schedules, page by page."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        query: Query = {"function": tuple(functions), "limit": _PAGE, "next": fires, "cursor": cursor}
        page = asked(system.ask("GET", "/_/schedules", query=query))
        found += page["schedules"]
        cursor = page["cursor"]
        if not cursor:
            return found


def _body(said: Mapping[str, str | None], *, replace: bool = False) -> bytes:
    """What the options say, as the API takes it."""
    given: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    if "payload" in given:
        try:
            given["payload"] = json.loads(given["payload"])
        except ValueError as error:
            raise click.ClickException(f"--payload is not JSON: {error}") from None
    if given.get("overlap", "").isdecimal():
        given["overlap"] = int(given["overlap"])
    return json.dumps({**given, "replace": True} if replace else given).encode()


def _print_one(one: Mapping[str, Any]) -> None:
    print_fields({name: value for name, value in one.items() if name not in ("next", "skips", "overrides")}, 17)
    for name, change in one["overrides"].items():
        before, now = (json.dumps(change[when], ensure_ascii=False) for when in ("declared", "now"))
        click.echo(f"{'changed:':<17} {name}: {plain(now)}, declared as {plain(before)}")
    for line in _fires(one):
        click.echo(f"{'next:':<17} {line}")
    for skip in one["skips"]:
        why = "missed" if skip["why"] == "missed" else "earlier runs were at work"
        click.echo(f"{'skipped:':<17} {skip['count']} up to {to_second(skip['planned_at'])}: {why}")


def _print_fires(one: Mapping[str, Any]) -> None:
    click.echo("  ".join([click.style(one["id"], bold=True), _rule(one), *_notes(one)]))
    for line in _fires(one):
        click.echo(f"    {line}")


def _rule(one: Mapping[str, Any]) -> str:
    if one["kind"] == "cron":
        return f"{one['rule']} {one['timezone']}"
    return f"{'every' if one['kind'] == 'interval' else 'at'} {one['rule']}"


def _notes(one: Mapping[str, Any]) -> list[str]:
    return [note for note, said in (("changed", one["overrides"]), ("paused", one["paused"])) if said]


def _next(one: Mapping[str, Any]) -> str:
    """To the second, in its zone; with a star where the clocks shift it."""
    fires = one["next"]
    return f"{fires[0]['local'].replace('T', ' ')}{' *' if fires[0]['shift'] else ''}" if fires else "-"


def _fires(one: Mapping[str, Any]) -> list[str]:
    local = one["kind"] == "cron" and one["timezone"] != "UTC"
    when = datetime.fromisoformat
    lines = [fire_line(when(f["at"]), when(f["local"]) if local else None, f["shift"] or "") for f in one["next"]]
    return lines or ["paused" if one["paused"] else "never again"]


def _path(schedule: str, verb: str = "") -> str:
    return f"/_/schedules/{quote(schedule, safe='')}" + (f"/{verb}" if verb else "")
