"""`fnrun doctor`: whether this installation is well, and what to do where it is not."""

import sys
from pathlib import Path

import click
import msgspec

from runtime.base import logs
from runtime.cli.printing import plain, print_json
from runtime.doctor.checks import examine
from runtime.doctor.facts import Finding
from runtime.doctor.gather import gather

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="Leave out what is well.")
@click.pass_obj
def doctor(root: Path, as_json: bool, quiet: bool) -> None:
    """Look at settings, machine, store, roles, queues and access; say what to do. Exit 1 if there is a problem."""
    logs.configure(style="console", level="error", stream=sys.stderr)  # what the store's opening warns of is found here
    findings = examine(gather(root))
    shown = [one for one in findings if one.level != "ok" or not quiet]
    counts = {level: sum(one.level == level for one in findings) for level in ("problem", "warning", "ok")}
    if as_json:
        print_json({"counts": counts, "findings": [msgspec.structs.asdict(one) for one in shown]})
    else:
        width = max((len(one.area) + len(one.about) for one in shown), default=0) + 2
        for one in shown:
            _print(one, width)
        click.echo(f"{counts['problem']} problem(s), {counts['warning']} warning(s), {counts['ok']} ok")
    if counts["problem"]:
        raise click.exceptions.Exit(1)


def _print(finding: Finding, width: int) -> None:
    level = click.style(finding.level.ljust(7), fg=_COLOURS[finding.level])
    about = f"{finding.area}: {finding.about}".ljust(width)
    click.echo(f"{level}  {plain(about)}  {plain(finding.text)}")
    if finding.fix:
        click.echo(f"{'':9}{'':{width}}  -> {plain(finding.fix)}")
