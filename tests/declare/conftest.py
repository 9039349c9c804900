"""Write function files, load them, and look at what came out."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from runtime.base.sections import FunctionSettings
from runtime.declare.loader import PACKAGE, load
from runtime.declare.registry import LoadFailure, Registry

HEADER = """\
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypedDict
import msgspec
from runtime import *
"""
"""Put above the source that `load_source` and `failure_of` take."""


@pytest.fixture(autouse=True)
def _restored_imports() -> Iterator[None]:
    """Loading replaces the package `functions` of this process: put back what other tests loaded."""
    before = {name: module for name, module in sys.modules.items() if _ours(name)}
    yield
    for name in [name for name in sys.modules if _ours(name)]:
        del sys.modules[name]
    sys.modules.update(before)


def _ours(name: str) -> bool:
    return name == PACKAGE or name.startswith(PACKAGE + ".")


@pytest.fixture
def load_files(tmp_path: Path) -> Callable[..., Registry]:
    """`load_files({"a.py": source, ...})` writes files below functions/ and loads the project."""

    def load_files(files: Mapping[str, str | bytes], overrides: Mapping[str, FunctionSettings] | None = None):
        folder = tmp_path / PACKAGE
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else (HEADER + dedent(content)).encode())
        return load(tmp_path, overrides or {})

    return load_files


@pytest.fixture
def failure_of(load_files: Callable[..., Registry]) -> Callable[..., LoadFailure]:
    """The one failure of the file broken.py with this source, on the line marked `# <-`; its neighbour must load."""

    def failure_of(source: str, setting: FunctionSettings | None = None) -> LoadFailure:
        files = {"broken.py": source, "well.py": "@http.get\ndef handler(): ..."}
        registry = load_files(files, {"broken": setting} if setting else {})
        assert set(registry.functions) == {"well"}
        failures = [failure for failure in registry.failures if failure.file != "functions.toml"]
        assert len(failures) == 1
        assert failures[0].place == f"functions/broken.py{_marked(source)}"
        return failures[0]

    return failure_of


def _marked(source: str) -> str:
    """ ":7" if line 7 of the file that `load_files` makes of `source` is marked; "" if none is."""
    lines = (HEADER + dedent(source)).splitlines()
    return next((f":{number}" for number, line in enumerate(lines, 1) if "# <-" in line), "")
