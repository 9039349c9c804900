"""Fixtures every layer uses: the sample project, an HTTP client on it, and folders that become projects."""

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Literal

import httpx
import pytest
import structlog
import trustme
from structlog.testing import LogCapture

from runtime.ledger.desk import Desk
from runtime.listening import open_socket
from runtime.projects import Project, load_project
from runtime.roles import HttpRole
from runtime.triggers.http.wire.server import Server, Wire
from tests.desks import desk, frozen, gone  # noqa: F401 - fixtures
from tests.ledger.conftest import valkey  # noqa: F401
from tests.live_servers import Server as Started

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "tests" / "samples"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests, too")


def pytest_configure(config: pytest.Config) -> None:
    """Trust one authority of our own: each client of httpx reads all of the system's, for 0.04 s of computing.

    No test asks anybody outside; those of TLS say whom they trust. What tests start inherits it.
    """
    folder = tempfile.TemporaryDirectory(prefix="fnrun-")
    config.add_cleanup(folder.cleanup)
    file = Path(folder.name) / "authority.pem"
    trustme.CA().cert_pem.write_to_path(file)
    os.environ["SSL_CERT_FILE"] = str(file)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow tests out, unless they are asked for. The longest begin first."""
    slow = [] if config.getoption("--slow") else [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
    items[:] = longest_first([item for item in items if item not in slow])


def longest_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """Each process of xdist begins with some of those that are given four minutes and more: none of them comes last.

    It gives each process as many neighbours to begin with; later, who is idle takes from the end of another's.
    """
    long = [item for item in items if (said := item.get_closest_marker("timeout")) and said.args[0] >= 240]
    rest = [item for item in items if item not in long]
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ends = [len(rest) * number // processes for number in range(processes + 1)]
    return [
        item
        for number in range(processes)
        for item in (*long[number::processes], *rest[ends[number] : ends[number + 1]])
    ]


@pytest.fixture(autouse=True)
def _restored_path() -> Iterator[None]:
    """Loading puts the project's folder there: of hundreds of them, each import that fails would ask each."""
    path = list(sys.path)
    yield
    sys.path[:] = path


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Lines(LogCapture):
    """Log lines as dicts: in `entries`; those of requests and runs apart in `requests`."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[dict] = []

    def __call__(self, logger, name, event):
        if event["event"] in ("request", "run"):
            self.requests.append(dict(event))
            raise structlog.DropEvent
        return super().__call__(logger, name, event)


@pytest.fixture
def log() -> Iterator[Lines]:
    """What is logged, as `Lines`."""
    capture = Lines()
    structlog.configure(processors=[capture])
    yield capture
    structlog.reset_defaults()


@pytest.fixture
def write_project(tmp_path: Path) -> Callable[..., Path]:
    """Write files of a project: `write_project(**{"functions/a.py": "..."})`; the folder is returned."""

    def write(**files: str) -> Path:
        (tmp_path / "functions").mkdir(exist_ok=True)
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), encoding="utf-8")
        return tmp_path

    return write


@pytest.fixture(scope="session")
def samples() -> Project:
    """The project in tests/samples, without a key."""
    project = load_project(SAMPLES, {"http__auth": "public"})
    assert project.registry.failures == ()
    return project


@asynccontextmanager
async def client_of(
    project: Project,
    *,
    open_locally: bool = False,
    desk: Desk | None = None,  # noqa: F811
) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client on a project, in process; its resources are open meanwhile."""
    role = HttpRole(project, open_locally=open_locally, desk=desk)
    await role.open()
    async with client_on(role) as client:
        yield client
    await role.close()
    role.invoker.threads.close()


class Way:
    """How `client_on` reaches a project: as an ASGI application, or over a socket by one of the lanes."""

    lane: Literal["fast", "hypercorn"] | None = None


@asynccontextmanager
async def client_on(role: HttpRole) -> AsyncIterator[httpx.AsyncClient]:
    if Way.lane is None:
        transport = httpx.ASGITransport(role.app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client
        return
    sock = open_socket("127.0.0.1:0")
    direct = role.direct if Way.lane == "fast" else None
    server = Server(role.app, sock, Wire(limits=role.shell.limits), role.overload, direct)
    await server.begin()
    try:
        transport = To(sock.getsockname()[1])
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=50) as client:
            yield client
    finally:
        await role.shell.idle(10)
        await server.end()


class To(httpx.AsyncHTTPTransport):
    """Sends what is for any host to this port."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_with(host="127.0.0.1", port=self._port)
        sent = httpx.Request(
            request.method, url, headers=request.headers, stream=request.stream, extensions=request.extensions
        )
        return await super().handle_async_request(sent)


@pytest.fixture
async def http(samples: Project, log: LogCapture) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client on the sample project."""
    async with client_of(samples) as client:
        yield client


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start `fnrun ARGUMENTS` in a folder; whatever still runs at the end is killed."""
    servers: list[Started] = []

    def run(root: Path, *arguments: str, environ: dict[str, str] | None = None, roles: str | None = "http") -> Started:
        servers.append(Started(root, *arguments, environ=environ, roles=roles))
        return servers[-1]

    yield run
    for server in servers:
        server.kill()
