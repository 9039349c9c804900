"""`fnrun runs`: look at runs and act on them, in the project's own store or on a running system."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click

from runtime.admin.queries import DONE, REFUSED_MESSAGE, STATES_OF, Verb
from runtime.cli.printing import plain, print_fields, print_json, print_table, to_second
from runtime.cli.systems import Query, System, asked, for_systems, open_system

F = TypeVar("F", bound=Callable[..., Any])

_PAGE = 1000
_MOST = 100_000
_FOLLOW_SECONDS = 0.5


def _selecting(limit: int) -> Callable[[F], F]:
    def add_all(command: F) -> F:
        for add in (
            click.option("--limit", type=click.IntRange(1, _MOST), default=limit, show_default=True),
            click.option("--since", default="", help='What happened since: "2h", or "2026-11-22T10:00:00Z".'),
            click.option("--parent", default="", help="What a run has submitted, or the steps of a flow: its id."),
            click.option("--trigger", default="", help="What started them: http, api, submit, cli, ..."),
            click.option("--state", "states", multiple=True, help="May be given several times, or with commas."),
            click.option("--function", "functions", multiple=True, help="May be given several times."),
        ):
            command = add(command)
        return for_systems(command)

    return add_all


@click.group()
def runs() -> None:
    """Look at runs, cancel them, run failed ones again."""


@runs.command("list")
@_selecting(50)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.pass_obj
def list_runs(root: Path, /, limit: int, as_json: bool, **said: Any) -> None:
    """Show runs, the newest first."""
    with open_system(root, said) as system:
        found = _select(system, _query(said), limit)
    if as_json:
        print_json(found)
    else:
        print_table(
            ("ID", "STATE", "FUNCTION", "QUEUE", "TRIGGER", "ACCEPTED", "FINISHED"),
            [
                (
                    run["id"], _state(run), run["function"], run.get("queue", ""), run["trigger"],
                    to_second(run["accepted_at"]), to_second(run.get("finished_at", "")),
                )
                for run in found
            ],
        )  # fmt: skip


@runs.command("show")
@click.argument("run_id")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@for_systems
@click.pass_obj
def show_run(root: Path, /, run_id: str, as_json: bool, **where: str | None) -> None:
    """Show all that is known of a run."""
    with open_system(root, where) as system:
        run = asked(system.ask("GET", _path(run_id)))
    if as_json:
        print_json(run)
        return
    attempts, failure = run.pop("attempts", []), run.pop("failure", None)
    logged, more = run.pop("logs", []), run.pop("more_logs", 0)
    print_fields(run, 13)
    for one in attempts:
        when = f"{to_second(one.get('began_at', ''))} to {to_second(one.get('finished_at', ''))}"
        said = [one["state"], when, one.get("reason"), one.get("message"), one.get("worker")]
        click.echo(f"attempt {one['attempt']}:    " + ", ".join(plain(part) for part in said if part))
    if failure is not None:
        click.echo(f"failure:      {plain(failure['type'])}: {plain(failure['message'])}")
        if "traceback" in failure:
            click.echo(plain(failure["traceback"], lines=True).rstrip())
    if logged:
        click.echo("logs:" + (f"         ({more} more: `fnrun runs logs {run_id}`)" if more else ""))
        _print_lines(logged)


@runs.command("logs")
@click.argument("run_id")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print each line as JSON.")
@for_systems
@click.pass_obj
def show_logs(root: Path, /, run_id: str, follow: bool, as_json: bool, **where: str | None) -> None:
    """Show what a run has logged, the last lines of it that are kept."""
    after, told = 0, False
    with open_system(root, where) as system:
        while True:
            found = asked(system.ask("GET", f"{_path(run_id)}/logs", query={"after": str(after)}))
            if found["dropped"] > after and not told:
                told = True
                click.echo(f"{found['dropped']} older lines are not kept", err=True)
            _print_lines(found["lines"], as_json=as_json)
            after = found["next"]
            if after < found["total"]:
                continue
            if found["finished"] or not follow:
                return
            time.sleep(_FOLLOW_SECONDS)


def _print_lines(lines: Sequence[Mapping[str, Any]], *, as_json: bool = False) -> None:
    for line in lines:
        if as_json:
            click.echo(json.dumps(line, ensure_ascii=False))
            continue
        fields = " ".join(f"{name}={value}" for name, value in line.get("fields", {}).items())
        attempt = f"attempt={line['attempt']}" if "attempt" in line else ""
        parts = (line["at"], f"[{line['level']}]", line["text"], fields, attempt)
        click.echo(" ".join(plain(part) for part in parts if part))
        if "exception" in line:
            click.echo(plain(line["exception"], lines=True).rstrip())


def _acting(command: F) -> F:
    """Options and arguments of a command that acts on runs by their ids, or on those it selects."""
    for add in (
        click.option("--yes", is_flag=True, help="Do not ask before acting on those selected."),
        _selecting(_PAGE),
        click.argument("ids", nargs=-1),
    ):
        command = add(command)
    return command


@runs.command("cancel")
@_acting
@click.option("--tree", is_flag=True, help="With all the runs that they have submitted.")
@click.pass_obj
def cancel_runs(root: Path, /, **said: Any) -> None:
    """Cancel runs: by their ids, or all open ones of a function, a state, ..."""
    _act(root, "cancel", said)


@runs.command("redrive")
@_acting
@click.pass_obj
def redrive_runs(root: Path, /, **said: Any) -> None:
    """Run failed runs again, with the payload they had: by their ids, or all of a function, a state, ..."""
    _act(root, "redrive", said)


@runs.command("purge")
@_acting
@click.pass_obj
def purge_runs(root: Path, /, **said: Any) -> None:
    """Forget finished runs: by their ids, or all of a function, a state, ..."""
    _act(root, "purge", said)


def _act(root: Path, verb: Verb, said: Mapping[str, Any]) -> None:
    """Act, print what became of them; exit 1 if that is not what was wanted of all."""
    ids, query = said["ids"], _query(said)
    selects = any(query.values())
    if bool(ids) == selects:
        raise click.UsageError("say which runs: either ids, or --function, --state, --trigger, --parent or --since")
    with open_system(root, said) as system:
        if selects:
            states = query["state"] or STATES_OF[verb][0]
            ids = [run["id"] for run in _select(system, {**query, "state": states}, said["limit"])]
            if not ids:
                click.echo("no such runs")
                return
            if not said["yes"]:
                click.confirm(f"{verb} {len(ids)} run{'s' if len(ids) > 1 else ''}?", abort=True, err=True)
        words = _act_on(system, verb, ids, tree=said.get("tree", False))
    _tell(words, counted=selects)
    if not selects and any(word not in DONE for _, word in words):
        raise click.exceptions.Exit(1)


def _tell(words: Sequence[tuple[str, str]], *, counted: bool) -> None:
    """Print what became of runs."""
    counts = Counter(word for _, word in words)
    if counted:
        click.echo(", ".join(f"{count} {word}" for word, count in counts.items()))
    else:
        for run_id, word in words:
            click.echo(f"{plain(run_id)}  {word}")
    if "refused" in counts:
        click.echo(f"refused: {REFUSED_MESSAGE}", err=True)


def _act_on(system: System, verb: str, ids: Sequence[str], *, tree: bool) -> list[tuple[str, str]]:
    if tree:
        found = [asked(system.ask("POST", f"{_path(one)}/cancel", query={"tree": "true"}, body=b"{}")) for one in ids]
        return [
            pair
            for one in found
            for pair in [(one["id"], one["state"]), *((f"  {n} descendants", w) for w, n in one["descendants"].items())]
        ]
    words: dict[str, str] = {}
    for at in range(0, len(ids), _PAGE):
        body = json.dumps({"ids": ids[at : at + _PAGE]}).encode()
        words |= asked(system.ask("POST", f"/_/runs/{verb}", body=body))["runs"]
    return list(words.items())


def _query(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "function": said["functions"],
        "state": said["states"],
        "trigger": said["trigger"],
        "parent": said["parent"],
        "since": said["since"],
    }


def _select(system: System, query: Query, limit: int) -> list[dict[str, Any]]:
    """Runs, page by page."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = asked(
            system.ask("GET", "/_/runs", query={**query, "limit": min(_PAGE, limit - len(found)), "cursor": cursor})
        )
        found += page["runs"]
        cursor = page["cursor"]
        if not cursor or len(found) >= limit:
            return found


def _path(run_id: str) -> str:
    return f"/_/runs/{quote(run_id, safe='')}"


def _state(run: Mapping[str, Any]) -> str:
    return f"{run['state']} ({run['reason']})" if run.get("reason", run["state"]) != run["state"] else run["state"]
