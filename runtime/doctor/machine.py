"""Find out the facts of this machine: packages, limits, memory, disk, zones, modes of files. Called by gather."""

import os
import platform
import resource
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from packaging.requirements import Requirement

from runtime.base import __version__
from runtime.base.keys import STATE_FOLDER
from runtime.doctor.facts import Machine

_LOOKED_AT = (".secrets", ".env", "functions.toml", "functions", STATE_FOLDER, f"{STATE_FOLDER}/keys.json")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_NO_LIMIT = 1 << 60


def machine_of(root: Path, zones: Iterable[str]) -> Machine:
    """This machine, for the project in `root`, which names these zones."""
    state = root / STATE_FOLDER
    folder = state if state.is_dir() else root
    disk = None
    with suppress(OSError):
        disk = shutil.disk_usage(folder)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return Machine(
        fnrun=__version__,
        python=platform.python_version(),
        unmet=tuple(_unmet(requires("fnrun") or ())),
        memory=_memory(),
        memory_limit=_memory_limit(),
        nofile=-1 if hard == resource.RLIM_INFINITY else hard,
        disk_free=disk.free if disk else None,
        disk_total=disk.total if disk else None,
        state_writable=os.access(folder, os.W_OK | os.X_OK),
        missing_zones=tuple(sorted(name for name in zones if not _is_known(name))),
        modes=dict(_modes(root)),
        has_traces=_has_traces(),
    )


def _unmet(required: Iterable[str]) -> Iterator[str]:
    """Requirements that what is installed does not meet; those of extras are asked for by nobody."""
    for line in required:
        one = Requirement(line)
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(one.name)
        except PackageNotFoundError:
            yield f"{one.name} is not installed"
        else:
            if not one.specifier.contains(found, prereleases=True):
                yield f"{one.name}{one.specifier}: {found} is installed"


def _has_traces() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # not on this system
        return None


def _memory_limit() -> int | None:
    """Of the control group this process is in, as a container has one."""
    for path in _LIMITS:
        with suppress(OSError, ValueError):
            limit = int(path.read_text())
            return limit if limit < _NO_LIMIT else None
    return None


def _is_known(zone: str) -> bool:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _modes(root: Path) -> Iterator[tuple[str, int]]:
    for name in _LOOKED_AT:
        with suppress(OSError):
            yield name, stat.S_IMODE((root / name).stat().st_mode)
