"""The `fnrun` command. Parses, calls roles or a lower layer, prints. Decides nothing itself."""

from importlib import import_module
from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from runtime.base.errors import FnrunError
from runtime.base.secrets.masking import mask

_COMMANDS = {
    "observing.alerts": "alerts",
    "calls": "health invoke",
    "cells": "cell-child function-child",
    "observing.doctor": "doctor",
    "keys": "audit keys",
    "observing.limits": "limits",
    "observing.stats": "stats",
    "project": "check config list openapi",
    "queues": "callbacks queues",
    "runs": "runs",
    "schedules": "schedules",
    "secrets": "secrets",
    "serving": "dev serve",
    "working": "celery",
}
_HOMES = {name: module for module, names in _COMMANDS.items() for name in names.split()}


class _Group(click.Group):
    """Loads a command's module when it is asked for. Prints the errors we raise on purpose as one line."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*_HOMES, *self.commands})

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands and cmd_name in _HOMES:
            module = import_module(f"runtime.cli.{_HOMES[cmd_name]}")
            found = (one for one in vars(module).values() if isinstance(one, click.Command) and one.name == cmd_name)
            self.add_command(next(found))
        return super().get_command(ctx, cmd_name)

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FnrunError as error:
            raise click.ClickException(mask(str(error))) from None
        except click.ClickException as error:
            if type(error) is click.ClickException and mask(error.message) != error.message:
                raise click.ClickException(mask(error.message)) from None
            raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--dir", "root", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The project: the folder that holds functions/. Default: this one.",
)  # fmt: skip
@click.version_option(package_name="fnrun")
@click.pass_context
def main(ctx: click.Context, root: Path) -> None:
    """Serve the functions of a folder: drop a file into functions/ and call it."""
    ctx.obj = root.resolve()
