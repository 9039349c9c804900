"""Every file of functions/, loaded into one Registry; a file that fails disables itself alone.

Called by roles and cli. `reload` takes up what changed, and keeps the last good version of a file that fails.
"""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from runtime.base.errors import DeclarationError, StartError, did_you_mean
from runtime.base.schedules import ScheduleTable
from runtime.base.secrets.vault import Vault
from runtime.base.sections import FunctionSettings
from runtime.base.settings import FILE_NAME
from runtime.declare.files import Signing, check_signing, failure_of, functions_in
from runtime.declare.lifespan import LIFESPAN, Lifespan, load_lifespan
from runtime.declare.modules import PACKAGE, importers_of, module_of, open_package, replacing
from runtime.declare.paths import shape_of
from runtime.declare.registry import Function, LoadFailure, Registry, check_on_failure
from runtime.declare.resources import Resource, forget_marked
from runtime.declare.tables import Tables
from runtime.declare.timing.schedules import schedule_id
from runtime.declare.triggers import Http, Schedule, forget_declared

_MOST_READS = 10
_SETTLE_SECONDS = 0.01
_EMPTY_SECONDS = 0.1
"""A file that is empty for longer is meant to be."""

_Overrides = Mapping[str, FunctionSettings]


class _File(msgspec.Struct):
    """found: what it holds as it is now, unless it does not load: failure. good: what it last served."""

    found: tuple[Function, ...] = ()
    failure: LoadFailure | None = None
    good: tuple[Function, ...] = ()


_NO_SECRETS = Signing()


class Loader:
    """The functions/ folder of a project.

    Of the settings: overrides: [functions."name"]; tables: [schedules.id]; zone: of cron rules that say none;
    vault: the secrets that functions name; None, or sealed, in a process where each call brings its own.
    signing: of signed routes.
    """

    def __init__(
        self,
        root: Path,
        overrides: _Overrides = MappingProxyType({}),
        tables: Mapping[str, ScheduleTable] = MappingProxyType({}),
        zone: str = "UTC",
        vault: Vault | None = None,
        *,
        signing: Signing = _NO_SECRETS,
    ) -> None:
        self._signing = signing
        self._root = root
        self._vault = vault
        self._overrides = overrides
        self._tables = Tables(root, tables, zone)
        self._zone = zone
        self._files: dict[str, _File] = {}
        self._lifespan: Lifespan | LoadFailure = Lifespan()
        self._libraries: dict[str, LoadFailure] = {}  # those that were good and are not now, by module

    def load(self) -> Registry:
        """Every function. StartError if there is no functions/ folder. What was imported before is forgotten."""
        if not (self._root / PACKAGE).is_dir():
            raise StartError(
                f"there is no {PACKAGE}/ folder in {self._root}; make one and put a file with a function into it"
            )
        open_package(self._root)
        forget_declared()
        forget_marked()
        self._files, self._libraries = {}, {}
        self._read_lifespan()  # first: the functions take its resources
        for path in _paths(self._root / PACKAGE):
            self._read(path)
        return self._registry()

    def reload(self, changed: Iterable[Path]) -> Registry | None:
        """Import anew what is in the changed files, and what imports them; all other modules stay as they are.

        A file that does not load now keeps serving what it last served. None if the change reaches _lifespan.py: that
        takes a new process.
        """
        changed = list(changed)
        for _ in range(_MOST_READS):
            seen = _settled(changed)
            if not self._read_again(changed):
                return None
            if seen == [_stamp(path) for path in changed]:
                break
        return self._registry()

    def _read_again(self, changed: Iterable[Path]) -> bool:
        """Read what the change reaches; False if that is _lifespan.py."""
        paths = _paths(self._root / PACKAGE)
        modules = {module_of(self._root, path): path for path in paths}
        names = [module_of(self._root, path) for path in changed]
        # What else is in the folder (a template, an __init__.py) may be read by any file.
        touched = importers_of(name for name in names if name) if all(names) else None
        if LIFESPAN in names or (LIFESPAN in sys.modules and (touched is None or LIFESPAN in touched)):
            return False
        forget_declared()
        self._libraries = {name: one for name, one in self._libraries.items() if touched and name not in touched}
        with replacing(touched) as old:
            for name, path in modules.items():
                if touched is None or name in touched or self._key(path) not in self._files:
                    self._read(path)
            for name in old - modules.keys() - sys.modules.keys():
                self._read_library(name)
        keys = [self._key(path) for path in paths]
        self._files = {key: self._files[key] for key in keys}
        return True

    def _key(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _read(self, path: Path) -> None:
        file = self._files.setdefault(self._key(path), _File())
        try:
            file.found, file.failure = self._functions_in(path), None
        except BaseException as error:  # noqa: BLE001 - whatever an author's file does, the others load
            _raise_interrupt(error)
            file.found, file.failure = (), failure_of(self._key(path), error)

    def _functions_in(self, path: Path) -> tuple[Function, ...]:
        secret_of = None if self._vault is None or self._vault.sealed else self._vault.get
        return functions_in(self._root, path, self._overrides, self._resources, secret_of)

    def _read_library(self, name: str) -> None:
        """Import a library anew that only handlers import, when they run: so its faults are told at once, too."""
        file = name.replace(".", "/") + ".py"
        if not (self._root / file).exists():
            return
        try:
            import_module(name)
        except BaseException as error:  # noqa: BLE001 - as above
            _raise_interrupt(error)
            self._libraries[name] = msgspec.structs.replace(failure_of(file, error), serves_last=True)

    def _read_lifespan(self) -> None:
        try:
            self._lifespan = load_lifespan(self._root, None if self._vault is None else self._vault.get)
        except BaseException as error:  # noqa: BLE001 - as above
            _raise_interrupt(error)
            self._lifespan = failure_of(f"{PACKAGE}/_lifespan.py", error)

    @property
    def _resources(self) -> tuple[Resource, ...]:
        return () if isinstance(self._lifespan, LoadFailure) else self._lifespan.resources

    def _registry(self) -> Registry:
        """What is served now: of each file what it holds, or what it last served if there is a fault in that."""
        refused: dict[str, LoadFailure] = {}
        while True:
            registry, served = self._assembled(refused)
            fresh = {f.file: f for f in reversed(_on_failure_faults(registry)) if f.file not in refused}
            if not fresh:
                break
            refused |= fresh  # whoever names a function of these is at fault, too
        for key, file in self._files.items():
            file.good = served[key]
        return registry

    def _assembled(self, refused: Mapping[str, LoadFailure]) -> tuple[Registry, dict[str, tuple[Function, ...]]]:
        """The registry, and what each file serves. refused: files whose fault shows only beside the others."""
        functions: dict[str, Function] = {}
        disabled: dict[str, Function] = {}
        lifespan = None if isinstance(self._lifespan, LoadFailure) else self._lifespan
        failures = [self._lifespan] if isinstance(self._lifespan, LoadFailure) else []
        routes: dict[Any, Function] = {}
        served: dict[str, tuple[Function, ...]] = {}
        failed: list[str] = []
        for key, file in self._files.items():
            found: tuple[Function, ...] = ()
            failure = file.failure or refused.get(key)
            if failure is None:
                found, failure = self._served(key, file.found, functions, routes)
            if failure is not None:
                found, _ = self._served(key, file.good, functions, routes)
                failures.append(msgspec.structs.replace(failure, serves_last=bool(found)))
                if not found:
                    failed.append(key)
            served[key] = found
            for function in found:
                (functions if self._enabled(function) else disabled)[function.name] = function
        failures += self._libraries.values()
        failures += self._unused_overrides([*functions, *disabled], failed)
        failures += self._tables.attach(functions, lambda name: name in disabled or _may_hold(failed, name))
        registry = Registry(functions=functions, disabled=tuple(disabled), failures=tuple(failures), lifespan=lifespan)
        return registry, served

    def _served(
        self, key: str, found: tuple[Function, ...], functions: Mapping[str, Function], routes: dict[Any, Function]
    ) -> tuple[tuple[Function, ...], LoadFailure | None]:
        """`found`, unless a file before it has a name or a route of its."""
        try:
            enabled = [f for f in found if self._enabled(f)]
            _check_schedules(enabled, self._zone)
            for function in enabled if self._vault is None or not self._vault.sealed else ():
                check_signing(function, self._signing)
            _check_duplicates(enabled, functions, routes)
        except DeclarationError as error:
            return (), failure_of(key, error)
        return found, None

    def _enabled(self, function: Function) -> bool:
        return self._overrides.get(function.name, FunctionSettings()).enabled

    def _unused_overrides(self, known: Sequence[str], failed: Sequence[str]) -> Iterator[LoadFailure]:
        """Overrides of functions there are none of, but for those of files that fail: they may well hold them."""
        for name in sorted(self._overrides.keys() - set(known)):
            if not _may_hold(failed, name):
                message = f'[functions."{name}"]: no such function is loaded{did_you_mean(name, known)}'
                yield LoadFailure(file=FILE_NAME, line=None, message=message)


def load(
    root: Path,
    overrides: _Overrides = MappingProxyType({}),
    tables: Mapping[str, ScheduleTable] = MappingProxyType({}),
    zone: str = "UTC",
) -> Registry:
    """Every function of the project in `root`, once; see Loader."""
    return Loader(root, overrides, tables, zone).load()


def _may_hold(failed: Iterable[str], name: str) -> bool:
    """Whether a function of that name may be in one of these files, which do not load."""
    prefixes = [".".join(Path(key).with_suffix("").parts[1:]) for key in failed]
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def _on_failure_faults(registry: Registry) -> list[LoadFailure]:
    faults: list[LoadFailure] = []
    for function in registry.functions.values():
        try:
            check_on_failure(function, registry.functions)
        except DeclarationError as error:
            faults.append(failure_of(function.file, error))
    return faults


def _raise_interrupt(error: BaseException) -> None:
    """Ctrl-C ends a load at start; during a reload, in a thread, it can only be the file's own doing."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error


def _stamp(path: Path) -> tuple[int, int]:
    """What changes with a file's content: size in bytes (-1: it is gone) and time in ns."""
    try:
        found = path.stat()
    except OSError:
        return -1, 0
    return found.st_size, found.st_mtime_ns


def _settled(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Stamps of files that nobody seems to write any more: some editors empty a file before they fill it."""
    began = time.monotonic()
    while True:
        stamps = [_stamp(path) for path in paths]
        if all(size for size, _ in stamps) or time.monotonic() - began > _EMPTY_SECONDS:
            return stamps
        time.sleep(_SETTLE_SECONDS)


def _paths(folder: Path) -> list[Path]:
    """Files that may hold functions, in a fixed order: not below a folder that begins with _ or a dot.

    StartError for a folder that may not be read: what is in it would be missing without a word.
    """

    def refuse(error: OSError) -> None:
        raise StartError(f"{error.filename} cannot be read: {error.strerror}")

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if name[0] not in "_.")
        # A linked folder is not walked; it is named, so that it fails by name instead of missing without a word.
        links = [name for name in folders if Path(parent, name).is_symlink()]
        files = [name for name in names if name.endswith(".py") and name[0] not in "_."]
        found += (Path(parent, name) for name in sorted(links + files))
    return found


def _check_duplicates(found: list[Function], taken: Mapping[str, Function], routes: dict[Any, Function]) -> None:
    """Refuse names and routes that are taken, by another file or twice in this one; else note the routes."""
    new: dict[Any, Function] = {}
    for function in found:
        if function.name in taken:
            raise DeclarationError(
                f'"{function.name}" is already a function, at {taken[function.name].place}; rename one',
                line=function.line,
            )
        for key, trigger in _routes(function):
            other = routes.get(key) or new.get(key)
            if other is not None:
                raise DeclarationError(
                    f'{key[0]} {function.route(trigger)} is already answered by "{other.name}" at {other.place}; '
                    "change one path",
                    line=trigger.line,
                )
            new[key] = function
    routes |= new


def _check_schedules(found: Iterable[Function], zone: str) -> None:
    """Refuse two schedules of a function that have one id: of two functions, ids differ by their names."""
    for function in found:
        lines: dict[str, int] = {}
        for trigger in function.triggers:
            if isinstance(trigger, Schedule):
                one = schedule_id(function.name, trigger, zone)
                if one in lines:
                    raise DeclarationError(
                        f'two schedules have the id "{one}", here and on line {lines[one]}; give one another name=',
                        line=trigger.line,
                    )
                lines[one] = trigger.line


def _routes(function: Function) -> Iterator[tuple[tuple[str, Any], Http]]:
    for trigger in function.triggers:
        if isinstance(trigger, Http):
            shape = shape_of(function.route(trigger))
            yield from (((method, shape), trigger) for method in trigger.methods)
