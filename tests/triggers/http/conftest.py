"""Every test of this folder that asks over HTTP asks three times: ASGI alone, and a socket by both lanes."""

import pytest

from tests.conftest import Way

_CLIENTS = {"http", "client", "app", "samples", "write_project", "project", "role"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Pure tests run once, and those with the mark `asgi`."""
    if _CLIENTS & set(metafunc.fixturenames):
        alone = metafunc.definition.get_closest_marker("asgi")
        metafunc.parametrize("way", ["asgi"] if alone else ["asgi", "fast", "hypercorn"], indirect=True)


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a client of this test reaches its project."""
    lane = getattr(request, "param", "asgi")
    monkeypatch.setattr(Way, "lane", None if lane == "asgi" else lane)
    return lane
