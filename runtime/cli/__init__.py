"""The `fnrun` command. Parses, calls roles or a lower layer, prints. Decides nothing itself."""

from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from runtime.base.errors import FnrunError
from runtime.cli.calls import health, invoke
from runtime.cli.cells import cell_child, function_child
from runtime.cli.keys import keys
from runtime.cli.limits import limits
from runtime.cli.project import check, config, list_functions, openapi
from runtime.cli.queues import queues
from runtime.cli.runs import runs
from runtime.cli.schedules import schedules
from runtime.cli.serving import dev, serve, serve_child
from runtime.cli.working import celery, scheduler_child, worker_child


class _Group(click.Group):
    """Prints the errors we raise on purpose as one line, and keeps tracebacks for bugs."""

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FnrunError as error:
            raise click.ClickException(str(error)) from None


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


for _command in (
    dev, serve, serve_child, scheduler_child, worker_child, cell_child, function_child, list_functions, check, openapi,
    invoke, runs, queues, limits, schedules, config, keys, health, celery,
):  # fmt: skip
    main.add_command(_command)
