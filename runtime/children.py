"""The children of `fnrun dev` and of the supervisor, as programs: which role one has, and what its parent tells it.

Called by `__main__`. Only `spawning` and the parents write these command lines, so no parser of people's is loaded: it
would take 10 ms of each child's start, and stay in its memory.
"""

import socket
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, clear_overloads

from typing_extensions import override

from runtime import projects, roles
from runtime.base.errors import FnrunError
from runtime.base.pulse import Pulse
from runtime.base.secrets.masking import mask
from runtime.base.settings import load_settings
from runtime.following import Parent
from runtime.observe.counts import join
from runtime.spawning import stop_at_once_until_served

_FLAGS = frozenset({"--announce", "--dev", "--first"})


def run(root: Path, role: str, arguments: Sequence[str]) -> None:
    """Be a child for the project in `root`. role: "serve-child", ...; arguments: what its parent and spawn add.

    Ends the process with the code 1, and one line on stderr, where something is not as it should be.
    """
    try:
        _RUN[role](root, **_read(arguments))
    except FnrunError as error:
        sys.exit(f"Error: {mask(str(error))}")


def _read(arguments: Sequence[str]) -> dict[str, Any]:
    """`--line 5 --first` as {"line": "5", "first": True}."""
    words = iter(arguments)
    return {word.removeprefix("--"): True if word in _FLAGS else next(words) for word in words}


def _serve(root: Path, fd: str, **told: Any) -> None:
    """It answers HTTP, on a socket it inherits."""
    parent = _parent("http", **told)
    roles.serve(_load(root), socket.socket(fileno=int(fd)), parent)


def _operate(root: Path, fd: str, **told: Any) -> None:
    """It answers whether the others are well, and what they count."""
    from runtime.operating import operate  # noqa: PLC0415 - it loads a server

    parent = _parent("ops", **told)
    operate(root, load_settings(root).settings, socket.socket(fileno=int(fd)), parent)


def _work(root: Path, **told: Any) -> None:
    """It runs what is queued."""
    from runtime.working import work  # noqa: PLC0415 - it loads Celery

    parent = _parent("worker", **told)
    work(_load(root), parent)


def _schedule(root: Path, **told: Any) -> None:
    """It fires what is due."""
    from runtime.scheduling import schedule  # noqa: PLC0415 - it loads APScheduler

    parent = _parent("scheduler", **told)
    schedule(_load(root), parent)


_RUN: dict[str, Callable[..., None]] = {
    "serve-child": _serve,
    "ops-child": _operate,
    "worker-child": _work,
    "scheduler-child": _schedule,
}


def _load(root: Path) -> projects.Project:
    """The project. Before it the store's client, without 3 MB of it that nobody here has a use for."""
    # redis-py tells servers its version, unless it is told not to, as ours is; what finds that out loads email,
    # zipfile, csv and more, 2 MB. Whoever imports that afterwards has it as ever; redis-py, too, when it asks.
    metadata = _Later("importlib.metadata")
    if metadata.__name__ not in sys.modules:
        metadata.step_in()
    try:
        import runtime.base.store  # noqa: F401, PLC0415 - now, and not before
    finally:
        metadata.step_aside()
    # typing keeps redis-py's 750, 0.8 MB, for whoever asks it for them. Those of functions and what they load stay.
    clear_overloads()
    return projects.load_project(root)


class _Later(ModuleType):
    """Stands for a module, which is loaded when something of it is wanted."""

    @override
    def __getattr__(self, name: str) -> Any:
        self.step_aside()
        return getattr(import_module(self.__name__), name)

    def step_in(self) -> None:
        """Be what is imported from now on, `import a.b` and `from a import b` alike."""
        package, _, name = self.__name__.rpartition(".")
        parent = import_module(package)
        self.__spec__ = PathFinder.find_spec(self.__name__, parent.__path__)
        sys.modules[self.__name__] = self
        setattr(parent, name, self)

    def step_aside(self) -> None:
        """Be it no more."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
            package, _, name = self.__name__.rpartition(".")
            delattr(import_module(package), name)


def _parent(role: str, line: str, pulse: str = "", counts: str = "", **said: bool) -> Parent:
    """Whose child this process is, which ends at a signal while it still loads."""
    stop_at_once_until_served()
    if counts:
        join(counts, role)
    beaten = Pulse.inherited(int(pulse)) if pulse else None
    return Parent(socket.socket(fileno=int(line)), pulse=beaten, **said)
