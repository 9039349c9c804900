"""What a process for functions that are isolated has about it: an environment with nobody's secrets.

What its function names, each call brings along.

Used by roles, the worker and the command line, which run such functions.
"""

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runtime.base.secrets.given import NO_SECRETS, Secrets
from runtime.base.secrets.sealing import PREFIX
from runtime.base.secrets.vault import OURS
from runtime.base.sections import Settings
from runtime.base.settings import is_secret_variable
from runtime.invoke.isolation.calls import Isolated

if TYPE_CHECKING:  # who has no isolated function needs neither
    from runtime.invoke.isolation.cells import Cells
    from runtime.invoke.isolation.zygote_client import Surroundings

_KEPT = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"}
)
_KEPT_FAMILIES = ("LC_", "PYTHON", "SSL_CERT_")
_STORE = "FNRUN_STORE__URL"
_TRACES = "OTEL_"


def cell_command(root: Path) -> tuple[str, ...]:
    """What starts a zygote of the project in `root`, whose cells execute runs; with `--calls`, calls."""
    return (sys.executable, "-P", "-m", "runtime", "--dir", str(root), "cell-child")


def clean_surroundings(
    environ: Mapping[str, str], named: Collection[str] = (), store_url: str = "", shared: Secrets = NO_SECRETS
) -> "Surroundings":
    """What programs need to run at all, and the variables that are named.

    Our own settings, and those of traces, where there may be a receiver's key among them, go another way.

    store_url: the store's address, open. What else is secret among the settings stays here, and so do the keys.
    """
    from runtime.invoke.isolation.zygote_client import Surroundings  # noqa: PLC0415 - see above

    seen = {
        name: value
        for name, value in environ.items()
        if name in _KEPT or name.startswith(_KEPT_FAMILIES) or (name in named and not name.startswith(OURS))
    }
    ours = {name: value for name, value in environ.items() if name.startswith(OURS) and not is_secret_variable(name)}
    ours |= {name: value for name, value in environ.items() if name.startswith(_TRACES)}
    if store_url and environ.get(_STORE, PREFIX).startswith(PREFIX):
        ours[_STORE] = store_url
    return Surroundings(environ=seen, given=msgspec.json.encode({**shared, **ours}))


def isolated_of(
    root: Path,
    settings: Settings,
    shared: Secrets = NO_SECRETS,
    environ: Mapping[str, str] = os.environ,
    stdout: int | None = None,
) -> Isolated:
    """What runs the isolated functions of the project in `root`; nothing is started yet.

    shared: the secrets of its resources, which are opened there, too. stdout: see Surroundings.
    """

    def make() -> "Cells":
        from runtime.invoke.isolation.cells import Cells  # noqa: PLC0415 - see above
        from runtime.invoke.isolation.places import Keep  # noqa: PLC0415

        seen = clean_surroundings(environ, settings.isolation.env, settings.store.url, shared)
        return Cells(
            (*cell_command(root), "--calls"),
            settings.isolation.processes,
            idle_seconds=None,
            keep=Keep(seconds=float(settings.isolation.idle), jobs=settings.isolation.max_calls),
            surroundings=msgspec.structs.replace(seen, stdout=stdout),
        )

    return Isolated(make)
