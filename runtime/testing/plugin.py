"""The pytest plugin that comes with fnrun: the fixture `harness`, and async tests that use it without a marker.

Found by pytest through the entry point `pytest11`. Loads nothing of the runtime until a test asks for the fixture.
"""

import asyncio
from collections.abc import Generator
from functools import wraps
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from runtime.testing import Harness


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> "Harness":
    """A Harness on the project that the test is in: the nearest folder above it that has functions/ in it.

    It is open while an async test runs. A fixture of the same name may return another one, open or not.
    """
    from runtime.testing import Harness  # noqa: PLC0415 - most runs of pytest do without

    folders = [*request.path.parents, Path.cwd()]
    return Harness(next((folder for folder in folders if (folder / "functions").is_dir()), Path.cwd()))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Open the harness of an async test, on the loop that the test runs on, whichever plugin runs it."""
    found: Any = pyfuncitem.funcargs.get("harness")
    call = pyfuncitem.obj
    if iscoroutinefunction(call) and getattr(found, "is_open", None) is False:

        @wraps(call)
        async def opened(**arguments: Any) -> None:
            async with found:
                await call(**arguments)

        pyfuncitem.obj = opened
        try:
            return (yield)
        finally:
            pyfuncitem.obj = call
    return (yield)


class _Alone:
    """Where no other plugin wants an async test, it is run here."""

    @pytest.hookimpl
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        names = pyfuncitem.funcargs
        if "harness" not in names or "anyio_backend" in names or not iscoroutinefunction(pyfuncitem.obj):
            return None
        asyncio.run(pyfuncitem.obj(**{name: names[name] for name in pyfuncitem._fixtureinfo.argnames}))
        return True


def pytest_configure(config: pytest.Config) -> None:
    """Take the second hook in, too."""
    config.pluginmanager.register(_Alone(), "fnrun-alone")
