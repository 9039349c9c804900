"""Fixtures of the tests of workers, and of those in a browser.

One browser and one server a module: Playwright holds the thread's event loop.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from runtime.base.store import Store
from tests.live_browsers import Watch, a_browser, watched
from tests.live_servers import Server
from tests.live_workers import Runs, Starts, workers
from tests.stores import TcpStore


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A project of functions to show and to try."""
    return Path(shutil.copytree(Path(__file__).parent / "shop", tmp_path_factory.mktemp("shop"), dirs_exist_ok=True))


@pytest.fixture(scope="module")
def shop_server(shop: Path) -> Iterator[Server]:
    """It under `fnrun dev`."""
    server = Server(shop, "dev", "--bind", "127.0.0.1:0")
    yield server
    assert server.stop() == 0


@pytest.fixture
def watch(browser: Browser, shop_server: Server) -> Iterator[Watch]:
    with watched(browser, shop_server.url) as watch:
        watch.page.goto("/_/docs")
        expect(watch.page.get_by_role("heading", name="shop")).to_be_visible()
        yield watch


@pytest.fixture
def page(watch: Watch) -> Page:
    """The docs of a server in dev."""
    return watch.page


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TcpStore]:
    """A store that has written what it answers."""
    with TcpStore(tmp_path_factory.mktemp("store"), "--appendfsync", "always") as server:
        yield server


@pytest.fixture
def runs(server: TcpStore, tmp_path: Path) -> Iterator[Runs]:
    """The runs in the store `server`; audited at the end."""
    store = Store.open(tmp_path, server.settings)
    runs = Runs(store)
    runs.client.flushall()
    yield runs
    runs.account()
    runs.client.close()
    store.close()


@pytest.fixture
def start_worker(root: Path, server: TcpStore, runs: Runs) -> Iterator[Starts]:
    """Start workers of the project `root` on that store."""
    with workers(root, server.url) as start:
        yield start


@pytest.fixture(scope="module", params=["fast", "hypercorn"])
def lane(request: pytest.FixtureRequest) -> str:
    """Both ways of a plain request of HTTP/1.1, one after the other."""
    return str(request.param)
