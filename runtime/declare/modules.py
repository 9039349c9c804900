"""Import the files of functions/ as modules `functions.<path>`, and some of them anew.

Called by the loader. The package is always the project's folder, whatever else is called `functions`; orders.py beside
orders/ are one module, whoever imports it first; and no bytecode is cached, since its one-second stamps would serve a
file saved twice within a second in its old form.
"""

import ast
import importlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import resolve_name, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from typing_extensions import override

PACKAGE = "functions"

_imports: dict[str, frozenset[str]] = {}
"""What the source of each module names in its imports, wherever they stand. Names that are no modules do no harm."""


def open_package(root: Path) -> None:
    """Make `functions` the package of this project, and forget an earlier one with all its modules."""
    for name in [PACKAGE, *_loaded()]:
        sys.modules.pop(name, None)
    _imports.clear()
    if _Finder in sys.meta_path:
        importlib.invalidate_caches()
    else:  # nothing was looked for in its folder yet; from Python 3.12 on, to forget that loads importlib.metadata
        sys.meta_path.insert(0, _Finder)
    package = ModuleType(PACKAGE)
    package.__path__ = [str(root / PACKAGE)]
    sys.modules[PACKAGE] = package
    if str(root) not in sys.path:
        sys.path.append(str(root))  # last: a secrets.py of the project's shall not stand in for Python's


def open_root() -> Path | None:
    """The project whose package is open, by open_package or because a script has imported it; None if none is."""
    package = sys.modules.get(PACKAGE)
    return None if package is None else next((Path(path).resolve().parent for path in package.__path__), None)


def module_of(root: Path, path: Path) -> str | None:
    """The module a file of functions/ is imported as; None for one that is none (a template, an __init__.py)."""
    inner = path.relative_to(root / PACKAGE)
    return (
        ".".join((PACKAGE, *inner.with_suffix("").parts))
        if inner.suffix == ".py" and inner.stem != "__init__"
        else None
    )


def function_name(parts: Sequence[str], attribute: str) -> str:
    """The name of the function `attribute` in the file whose path below functions/ has these parts."""
    alone = attribute in ("handler", parts[-1].replace("-", "_"))
    return ".".join(parts if alone else (*parts, attribute))


def importers_of(names: Iterable[str]) -> set[str]:
    """`names`, and every module that imports one of them, be it through others."""
    found: set[str] = set()
    fresh = set(names)
    while fresh:
        found |= fresh
        fresh = {name for name, imported in _imports.items() if name not in found and not imported.isdisjoint(fresh)}
    return found


@contextmanager
def replacing(names: set[str] | None) -> Iterator[set[str]]:
    """Within: these modules (None: all) are not there, so that whoever imports them gets a new one. Gives their names.

    After: one that was not imported anew, because it fails or nobody asked for it, is there again as it was; unless its
    file is gone.
    """
    importlib.invalidate_caches()
    old = {name: sys.modules[name] for name in _loaded() if names is None or name in names}
    for name in old:
        del sys.modules[name]
        _set_in_parent(name, None)
    try:
        yield set(old)
    finally:
        for name, module in old.items():
            origin = getattr(module, "__file__", None)
            if name not in sys.modules and (origin is None or Path(origin).exists()):
                sys.modules[name] = module
                _set_in_parent(name, module)


def _loaded() -> list[str]:
    return [name for name in list(sys.modules) if name.startswith(PACKAGE + ".")]  # a copy: other threads import, too


def _set_in_parent(name: str, module: ModuleType | None) -> None:
    """`from functions import x` looks there first."""
    parent, _, own = name.rpartition(".")
    package = sys.modules.get(parent)
    if package is None:
        return
    if module is not None:
        setattr(package, own, module)
    elif isinstance(getattr(package, own, None), ModuleType):
        delattr(package, own)


class _Finder:
    """Finds the files of functions/; a folder without a file of its name is left to Python."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, _target: object = None) -> ModuleSpec | None:
        if path is None or not name.startswith(PACKAGE + "."):
            return None
        inner = Path(path[0], name.rpartition(".")[2])
        file = inner.with_name(inner.name + ".py")
        if not file.is_file():
            return None
        folders = [str(inner)] if inner.is_dir() else None
        return spec_from_file_location(name, file, loader=_Source(name, str(file)), submodule_search_locations=folders)


class _Source(SourceFileLoader):
    """Compiles from the source each time."""

    @override
    def path_stats(self, path: Any) -> Any:
        raise OSError("no bytecode")  # the documented way to say that there is nothing to compare a cache with

    @override
    def source_to_code(self, data: Any, path: Any = "<string>") -> Any:  # type: ignore[override]  # static for finders
        """As Python's, and note what the source imports."""
        tree: Any = compile(data, path, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
        _imports[self.name] = frozenset(_imported(tree, self.name, is_package=self.is_package(self.name)))
        return super().source_to_code(tree, path)


def _imported(tree: Any, module: str, *, is_package: bool) -> Iterator[str]:
    """Every name an import in `tree` may mean, and the packages around `module`, which are imported before it."""
    package = module if is_package else module.rpartition(".")[0]
    while "." in (module := module.rpartition(".")[0]):
        yield module
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            try:
                base = resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:
                continue  # beyond the top: Python will say so when the line runs
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
