"""`fnrun keys` and `fnrun audit`: access keys, and who did what; in the project's own store or on a running system."""

import json
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import click

from runtime.base.durations import parse_duration
from runtime.base.keys import check_scope, expiry_text, id_in
from runtime.cli.printing import print_json, print_table
from runtime.cli.systems import asked, for_systems, open_system


@click.group()
def keys() -> None:
    """Make, list and revoke access keys."""


@keys.command("create")
@click.option("--name", default="", help="What it is for.")
@click.option("--scope", "scopes", multiple=True, default=("invoke",), show_default=True,
              help="admin, read, invoke, or invoke:<function or pattern>; may be given several times.")  # fmt: skip
@click.option("--expires", help='How long it is good for, "30d" for instance; for ever if left out.')
@for_systems
@click.pass_obj
def create_key(root: Path, /, name: str, scopes: tuple[str, ...], expires: str | None, **where: str | None) -> None:
    """Make a key and print it, this once."""
    try:
        lifetime = parse_duration(expires) if expires is not None else None
    except ValueError as error:
        raise click.ClickException(f"--expires: {error}") from None
    if not name.isprintable():
        raise click.ClickException("--name: one line of printable characters")
    body = {"name": name, "scopes": [check_scope(scope) for scope in scopes], "expires": lifetime}
    with open_system(root, where) as system:
        made = asked(system.ask("POST", "/_/keys", body=json.dumps(body).encode()))
    click.echo(made["key"])
    said = f"id {made['id']}, scopes {' '.join(made['scopes'])}, expires {_expiry(made['expires_at'])}"
    click.echo(f"{said}; it cannot be shown again", err=True)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@for_systems
@click.pass_obj
def list_keys(root: Path, /, as_json: bool, **where: str | None) -> None:
    """Show the keys: id, scopes, expiry, when they were last used, name. Never the keys themselves."""
    with open_system(root, where) as system:
        found = asked(system.ask("GET", "/_/keys"))["keys"]
    if as_json:
        print_json(found)
        return
    rows = [
        (one["id"], " ".join(one["scopes"]), _expiry(one["expires_at"]), one["used_at"] or "never", one["name"])
        for one in found
    ]
    print_table(("ID", "SCOPES", "EXPIRES", "USED", "NAME"), rows)


@keys.command("revoke")
@click.argument("key_id")
@click.option("--force", is_flag=True, help="Even the last key with admin.")
@for_systems
@click.pass_obj
def revoke_key(root: Path, /, key_id: str, force: bool, **where: str | None) -> None:
    """Remove a key, by its id or the key itself; running servers refuse it within a second."""
    key_id = id_in(key_id) or key_id  # a whole key, pasted: it shall be in no path, and so in no log
    with open_system(root, where) as system:
        query = {"force": "true"} if force else {}
        system.ask("DELETE", f"/_/keys/{quote(key_id, safe='')}", query=query)
    click.echo(f"revoked {key_id}")


@click.command()
@click.option("--since", default="", help='Not older than "2h", or than a date-time.')
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@for_systems
@click.pass_obj
def audit(root: Path, /, since: str, limit: int, as_json: bool, **where: str | None) -> None:
    """Show who did what to the system, newest first: runs, queues, schedules, keys."""
    with open_system(root, where) as system:
        found = asked(system.ask("GET", "/_/audit", query={"since": since, "limit": limit}))["entries"]
    if as_json:
        print_json(found)
        return
    print_table(
        ("AT", "WHO", "FROM", "DID", "TO", ""),
        [
            (
                one["at"],
                " ".join(one["actor"].get(part, "") for part in ("kind", "id", "name")).strip(),
                one["actor"].get("address", ""),
                one["action"],
                one["target"],
                json.dumps(one["details"]) if one["details"] else "",
            )
            for one in found
        ],
    )


def _expiry(at: str | None) -> str:
    return expiry_text(None if at is None else datetime.fromisoformat(at).timestamp())
