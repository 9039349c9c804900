"""`fnrun` in this process: on a project's own store, or on a running system."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner, Result

from runtime.cli import main
from runtime.ledger.desk import Desk
from tests.keys import key_in
from tests.wire_servers import Wired

Command = Callable[..., Result]
"""It takes arguments, and what is typed as `stdin`."""


@contextmanager
def command(root: Path, desk: Desk, *first: str, there: bool) -> Iterator[Command]:
    """The command, whose arguments begin so. there: with the address and a key of a system that runs meanwhile."""
    where, server = [], None
    if there:
        token = key_in(desk, "admin")
        server = Wired(root, auth="key", desk=desk)
        where = ["--url", f"http://127.0.0.1:{server.port}", "--key", token]

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, ["--dir", str(root), *first, *arguments, *where], input=stdin)

    try:
        yield run
    finally:
        if server is not None:
            server.stop()


def good(result: Result) -> str:
    """What it printed; it ended well."""
    assert result.exit_code == 0, result.output
    return result.stdout
