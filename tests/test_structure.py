"""Rules the code base keeps about itself."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import click
import pytest

import runtime

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "runtime").rglob("*.py"))
SERVERS = {"starlette", "hypercorn", "uvloop", "celery", "kombu", "redis", "apscheduler", "click", "watchfiles"}


def test_the_public_names_are_these_and_sorted():
    assert all(hasattr(runtime, name) for name in runtime.__all__)
    found = {name for name in vars(runtime) if not name.startswith("_") and not _is_module(name)}
    assert found - {"Any", "TYPE_CHECKING"} == set(runtime.__all__)
    assert not hasattr(runtime, "Nothing")
    assert runtime.__all__ == sorted(
        runtime.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )


def _is_module(name: str) -> bool:
    return isinstance(getattr(runtime, name), type(sys))


WITH_WHAT_IS_SHIPPED = """
import importlib, re, sys
from importlib.metadata import packages_distributions
locked, names = {locked!r}, {names!r}

class Refuse:
    known = packages_distributions()
    def find_spec(self, name, path=None, target=None):
        brought = [re.sub("[._]", "-", one.lower()) for one in self.known.get(name, ())]
        if brought and not locked.intersection(brought):
            raise ModuleNotFoundError(f"{{brought}} would not be there", name=name)

sys.meta_path.insert(0, Refuse())
for name in names:
    importlib.import_module(name)
"""


def test_what_is_shipped_is_all_that_is_needed():
    """The environment of the tests has more: what only that brings would be missing in an image."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES]
    names = [name for name in names if ".testing" not in name and not name.endswith(("__", "http3", "keeper", "otel"))]
    locked = set(re.findall(r"^([a-z0-9.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)) | {"fnrun"}
    code = WITH_WHAT_IS_SHIPPED.format(locked=locked, names=[*names, "celery.apps.worker"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-600:]


def test_importing_runtime_loads_no_server_broker_or_scheduler():
    code = (
        "import runtime, sys; runtime.submit.using(priority=1); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert SERVERS & set(loaded) == set()


def test_a_parent_loads_no_function_and_no_client_before_its_children_are_started():
    code = "import runtime.cli.serving, runtime.supervisor, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    layers = {f"runtime.{name}" for name in ("declare", "invoke", "ledger", "tasks", "triggers", "roles", "projects")}
    assert (layers | SERVERS - {"click"} | {"structlog"}) & set(loaded) == set()


def test_a_parent_starts_its_first_child_before_it_loads_asyncio():
    code = "import runtime.cli.serving, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"asyncio", "ssl", "runtime.supervisor", "runtime.processes", "runtime.dev"} & set(loaded) == set()


def test_the_scheduler_loads_nothing_of_the_other_roles():
    code = "import runtime.scheduling, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    others = {"celery", "kombu", "starlette", "hypercorn", "h2", "httpx", "prometheus_client", "watchfiles"}
    assert others & set(loaded) == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_for_and_stays_small(path: Path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "it begins with a docstring: what it does, who calls it"
    assert len(text.splitlines()) <= 350


def test_no_room_has_more_modules_than_a_reader_can_hold():
    rooms = Counter(path.parent.relative_to(ROOT).as_posix() for path in MODULES if path.name != "__init__.py")
    assert {room: count for room, count in rooms.items() if count > 15} == {}


def test_every_setting_has_a_heading_in_the_reference():
    from runtime.base.schedules import ScheduleTable
    from runtime.base.sections import FunctionSettings, Settings
    from runtime.base.settings import SECTIONS
    from runtime.base.tables.alerts import AlertTable

    reference = (ROOT / "docs" / "reference.md").read_text()
    settings = Settings()
    names = [f"{s}.{k}" for s in SECTIONS for k in getattr(settings, s).__struct_fields__]
    names += [f"functions.<name>.{key}" for key in FunctionSettings.__struct_fields__]
    names += [f"schedules.<id>.{key}" for key in ScheduleTable.__struct_fields__]
    names += [f"alerts.<name>.{key}" for key in AlertTable.__struct_encode_fields__]
    assert [name for name in names if f"`{name}`" not in reference] == []


def test_every_public_name_is_in_the_reference():
    reference = (ROOT / "docs" / "reference.md").read_text()
    assert [name for name in runtime.__all__ if not re.search(rf"\b{name}\b", reference)] == []


def test_every_command_is_in_the_reference():
    from runtime.cli import main

    reference = (ROOT / "docs" / "reference.md").read_text()
    context = click.Context(main)
    commands = [name for name in main.list_commands(context) if not main.get_command(context, name).hidden]
    assert [name for name in commands if f"`fnrun {name}" not in reference] == []
