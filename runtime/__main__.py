"""`python -m runtime` is the `fnrun` command."""

from runtime.cli import main

main()
