"""`fnrun keys`: make, list and revoke access keys."""

from pathlib import Path

import click

from runtime.base.durations import parse_duration
from runtime.base.keys import KeyFile, check_scope


@click.group()
def keys() -> None:
    """Make, list and revoke access keys."""


@keys.command("create")
@click.option("--name", default="", help="What it is for.")
@click.option("--scope", "scopes", multiple=True, default=("invoke",), show_default=True,
              help="admin, read, invoke, or invoke:<function or pattern>; may be given several times.")  # fmt: skip
@click.option("--expires", help='How long it is good for, "30d" for instance; for ever if left out.')
@click.pass_obj
def create_key(root: Path, name: str, scopes: tuple[str, ...], expires: str | None) -> None:
    """Make a key and print it, this once."""
    try:
        lifetime = parse_duration(expires) if expires is not None else None
    except ValueError as error:
        raise click.ClickException(f"--expires: {error}") from None
    if not name.isprintable():
        raise click.ClickException("--name: one line of printable characters")
    key, token = KeyFile(root).create(name, tuple(check_scope(scope) for scope in scopes), lifetime)
    click.echo(token)
    click.echo(f"id {key.id}, scopes {' '.join(key.scopes)}, expires {key.expires}; it cannot be shown again", err=True)


@keys.command("list")
@click.pass_obj
def list_keys(root: Path) -> None:
    """Show the keys: id, scopes, expiry, name. Never the keys themselves."""
    for key in KeyFile(root).list():
        click.echo(f"{key.id}  {' '.join(key.scopes)}  expires {key.expires}  {key.name}".rstrip())


@keys.command("revoke")
@click.argument("key_id")
@click.pass_obj
def revoke_key(root: Path, key_id: str) -> None:
    """Remove a key; running servers refuse it within a second."""
    click.echo(f"revoked {KeyFile(root).revoke(key_id).id}")
