"""Import the files of functions/ as modules `functions.<path>`.

Called by the loader. The package is always the project's folder, whatever else is called `functions`; orders.py beside
orders/ are one module, whoever imports it first; and no bytecode is cached, since its one-second stamps would serve a
file saved twice within a second in its old form.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from typing_extensions import override

PACKAGE = "functions"


def open_package(root: Path) -> None:
    """Make `functions` the package of this project, and forget an earlier one with all its modules."""
    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(PACKAGE + ".")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    package = ModuleType(PACKAGE)
    package.__path__ = [str(root / PACKAGE)]
    sys.modules[PACKAGE] = package
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    if str(root) not in sys.path:
        sys.path.append(str(root))  # last: a secrets.py of the project's shall not stand in for Python's


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
