"""The `fnrun` command, which is also `python -m runtime`; and the children that it starts by that."""

import sys
from pathlib import Path

from runtime.base.garbage import collect_seldom, load_in_peace

collect_seldom()  # before all else is loaded

_CHILDREN = frozenset({"ops-child", "scheduler-child", "serve-child", "worker-child"})


def main() -> None:
    """Be what the arguments say. A parent begins those of a child by `--dir FOLDER NAME`."""
    arguments = sys.argv[1:]
    if len(arguments) > 2 and arguments[2] in _CHILDREN:  # noqa: PLR2004 - as said
        load_in_peace()
        from runtime.children import run  # noqa: PLC0415 - it loads the roles, and a command what reads commands

        run(Path(arguments[1]).resolve(), arguments[2], arguments[3:])
    else:
        from runtime.cli import main as command  # noqa: PLC0415 - as above

        command()


if __name__ == "__main__":
    main()
