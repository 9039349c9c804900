"""A project as a process opens it, and what every process of it begins and ends with: the log, signals, the event loop.

Used by roles and by commands. Serves nothing itself.
"""

import asyncio
import atexit
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TextIO

import msgspec

from runtime.base import logs
from runtime.base.secrets.vault import publish
from runtime.base.sections import Settings
from runtime.base.settings import NOTHING, Loaded, load_settings
from runtime.declare.context import log_fields
from runtime.declare.files import Signing
from runtime.declare.loader import Loader
from runtime.declare.registry import Registry


class Project(msgspec.Struct, frozen=True):
    """A folder with functions/: its settings and its functions."""

    root: Path
    loaded: Loaded
    loader: Loader
    registry: Registry

    @property
    def settings(self) -> Settings:
        """The settings alone."""
        return self.loaded.settings


def load_project(
    root: Path,
    overrides: Mapping[str, str] = NOTHING,
    environ: Mapping[str, str] = os.environ,
    *,
    sealed: bool = False,
) -> Project:
    """Settings and functions of the project in `root`; see load_settings for the rest."""
    return open_project(root, load_settings(root, overrides, environ, sealed=sealed))


def open_project(root: Path, loaded: Loaded) -> Project:
    """The project in `root`, whose settings have been read. What `.env` says is in the environment from now on."""
    given, vault = loaded.settings, loaded.vault
    if not vault.sealed:
        publish(vault.variables)
    signing = Signing(auth=given.http.auth, secrets=given.signing.secrets)
    loader = Loader(root, given.functions, given.schedules, given.schedule.timezone, vault, signing=signing)
    return Project(root, loaded, loader, loader.load())


def begin_log(root: Path, settings: Settings, *, direct: bool = False, stream: TextIO | None = None) -> None:
    """Log as the settings say, with what handlers log and print. direct, stream: see logs.begin."""
    logs.begin(root, settings.log, fields=log_fields, direct=direct, stream=stream)
    logs.catch_prints(log_fields)


def end_process(code: int) -> NoReturn:
    """End now, after what was registered with atexit. Python itself would first wait for threads that may never end."""
    atexit._run_exitfuncs()
    logs.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def loop_factory() -> Any:
    """What makes an event loop: uvloop's where it is there, None for Python's own."""
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def stop_event() -> asyncio.Event:
    """Set by SIGTERM and SIGINT. A second signal ends the process at once."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            end_process(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop
