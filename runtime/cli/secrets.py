"""`fnrun secrets`: make keys, encrypt and decrypt values, and encrypt all of `.secrets` with a new key."""

import base64
import os
import re
import sys
from pathlib import Path

import click

from runtime.base.secrets.files import SECRETS_FILE, Entry, read_entries, rewrite
from runtime.base.secrets.sealing import (
    FILE_VARIABLE,
    KEY_VARIABLE,
    PREFIX,
    Keyring,
    Unopened,
    keyring_of,
    name_of,
    new_key,
)
from runtime.base.secrets.vault import KEY_VARIABLES, key_variables

_WEBHOOK_BYTES = 32
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@click.group()
def secrets() -> None:
    """Encrypt values for .secrets, functions.toml and variables; FNRUN_SECRET_KEY has the keys."""


@secrets.command()
@click.option("--webhook", is_flag=True, help="A secret that signs requests (whsec_...), instead of a key.")
def keygen(webhook: bool) -> None:
    """Print a new key for FNRUN_SECRET_KEY. Keep a copy where nobody looks: without it nothing opens."""
    click.echo(f"whsec_{base64.b64encode(os.urandom(_WEBHOOK_BYTES)).decode()}" if webhook else new_key())


@secrets.command()
@click.argument("name")
@click.option("--write", is_flag=True, help="Put it into .secrets, in place of an older one, instead of printing it.")
@click.pass_obj
def encrypt(root: Path, name: str, write: bool) -> None:
    """Encrypt a value for NAME, and no other name: a variable's, or a setting's such as store.url.

    The value is asked for, or read from standard input: on the command line others could see it. One line end at its
    end is left out.
    """
    _check_name(name, write=write)
    keyring = _keyring(root)
    value = click.prompt(name, hide_input=True, err=True) if sys.stdin.isatty() else _read()
    if not value:
        raise click.ClickException(f"{name}: there is no value; give it on standard input")
    try:
        sealed = keyring.seal(name, value)
    except Unopened as error:
        raise click.ClickException(f"{name} {error}") from None
    if not write:
        click.echo(sealed)
        return
    same = name_of(name)
    rewrite(
        root / SECRETS_FILE,
        lambda entry: sealed if name_of(entry.name) == same else entry.value,
        [(_variable(name), sealed)],
    )
    click.echo(f"{_variable(name)} is in {SECRETS_FILE}", err=True)


@secrets.command()
@click.argument("name", required=False)
@click.pass_obj
def decrypt(root: Path, name: str | None) -> None:
    """Print the value of NAME in .secrets; without a name, all of them as NAME=value. In the clear."""
    keyring, entries = _keyring(root), read_entries(root / SECRETS_FILE)
    if name is None:
        for entry in entries.values():
            click.echo(f"{entry.name}={_opened(keyring, entry)}")
        return
    found = next((entry for one, entry in entries.items() if name_of(one) == name_of(name)), None)
    if found is None:
        raise click.ClickException(f"there is no {name} in {SECRETS_FILE}; there are: {', '.join(entries) or 'none'}")
    click.echo(_opened(keyring, found))


@secrets.command()
@click.pass_obj
def rotate(root: Path) -> None:
    """Encrypt every value of .secrets with the first key of FNRUN_SECRET_KEY, those in the clear, too.

    Put the new key before the old one, rotate, and take the old one away.
    """
    keyring = _keyring(root)
    count = 0

    def renew(entry: Entry) -> str:
        """Every one, before any is written: a key that is missing changes nothing."""
        nonlocal count
        count += 1
        return keyring.seal(entry.name, _opened(keyring, entry))

    rewrite(root / SECRETS_FILE, renew)
    click.echo(f"{count} value(s) of {SECRETS_FILE} are encrypted with the key {keyring.keys[0].id}", err=True)
    click.echo("what is encrypted elsewhere (functions.toml, variables) is yours to encrypt anew", err=True)


def _keyring(root: Path) -> Keyring:
    keyring = keyring_of(key_variables(root, os.environ), root)
    if not keyring.keys:
        raise click.ClickException(
            f"there is no key: `fnrun secrets keygen` makes one, for {KEY_VARIABLE} or the file of {FILE_VARIABLE}"
        )
    return keyring


def _check_name(name: str, *, write: bool) -> None:
    """Refuse a name under which nothing would ever be read."""
    _, dot, key = name.partition(".")
    if name in KEY_VARIABLES:
        raise click.ClickException(f"{name} is what opens the others, and is not encrypted itself")
    if write and "." in key:
        raise click.ClickException(f"{name} stands in functions.toml; leave --write out, and put what is printed there")
    if not dot and not _NAME.fullmatch(name):
        raise click.ClickException("NAME: letters, digits and _, or a setting's, store.url for instance; no value")


def _read() -> str:
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise click.ClickException("the value is not UTF-8 text; encode it, by base64 for instance") from None
    return text.removesuffix("\n").removesuffix("\r")


def _variable(name: str) -> str:
    """What a value is called in .secrets: a setting's by its variable."""
    section, dot, key = name.partition(".")
    return f"FNRUN_{section}__{key}".upper() if dot else name


def _opened(keyring: Keyring, entry: Entry) -> str:
    if not entry.value.startswith(PREFIX):
        return entry.value
    try:
        return keyring.open(entry.name, entry.value)
    except Unopened as error:
        raise click.ClickException(f"{entry.place}: {entry.name} {error}") from None
