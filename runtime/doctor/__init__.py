"""Look whether an installation is well: facts are gathered, pure checks judge them, each with what to do about it."""
