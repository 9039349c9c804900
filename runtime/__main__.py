"""The `fnrun` command, which is also `python -m runtime`."""

from runtime.base.garbage import collect_seldom

collect_seldom()  # before all else is loaded

from runtime.cli import main  # noqa: E402 - as said

if __name__ == "__main__":
    main()
