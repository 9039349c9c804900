"""What a process for functions that are isolated has about it: an environment with nobody's secrets but their own.

Used by roles, the worker and the command line, which run such functions.
"""

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from runtime.base.sections import IsolationSettings
from runtime.invoke.isolation.calls import Isolated
from runtime.invoke.isolation.cells import Cells
from runtime.invoke.isolation.places import Keep
from runtime.invoke.isolation.zygote_client import Surroundings

_KEPT = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"}
)
_KEPT_FAMILIES = ("LC_", "PYTHON", "SSL_CERT_")
_OURS = "FNRUN_"
_TRACES = "OTEL_"


def cell_command(root: Path) -> tuple[str, ...]:
    """What starts a zygote of the project in `root`, whose cells execute runs; with `--calls`, calls."""
    return (sys.executable, "-P", "-m", "runtime", "--dir", str(root), "cell-child")


def clean_surroundings(environ: Mapping[str, str], named: Collection[str] = ()) -> Surroundings:
    """What programs need to run at all, and the variables that are named.

    Our own settings, and those of traces, where there may be a receiver's key among them, go another way.
    """
    seen = {
        name: value
        for name, value in environ.items()
        if name in _KEPT or name.startswith(_KEPT_FAMILIES) or (name in named and not name.startswith(_OURS))
    }
    ours = {name: value for name, value in environ.items() if name.startswith((_OURS, _TRACES))}
    return Surroundings(environ=seen, given=msgspec.json.encode(ours))


def isolated_of(root: Path, settings: IsolationSettings, environ: Mapping[str, str] = os.environ) -> Isolated:
    """What runs the isolated functions of the project in `root`; nothing is started yet."""

    def make() -> Cells:
        return Cells(
            (*cell_command(root), "--calls"),
            settings.processes,
            idle_seconds=None,
            keep=Keep(seconds=float(settings.idle), jobs=settings.max_calls),
            surroundings=clean_surroundings(environ, settings.env),
        )

    return Isolated(make)
