"""The HTTP servers: how each is started, in the settings that its own documentation gives for production.

Called by web.measure, overload.py. A server lives for one `with`; its whole process group is gone afterwards.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.compare import environments, processes
from benchmarks.compare.environments import BENCHMARKS, OURS
from benchmarks.compare.processes import HOST, BenchmarkError

APPS = BENCHMARKS / "apps" / "web"
ROUTES = 1000


class Server(NamedTuple):
    """environment: of peers/, None for a program of the system. command: {python}, {port} and {folder} filled in.

    limit: no framework, but what one could reach. without: cases that it does not know.
    """

    environment: str | None
    command: tuple[str, ...]
    note: str
    limit: bool = False
    without: tuple[str, ...] = ()


def _uvicorn(app: str) -> tuple[str, ...]:
    return ("{python}", "-m", "uvicorn", app, "--host", HOST, "--port", "{port}", "--no-access-log", "--log-level",
            "warning")  # fmt: skip


_FRAMEWORK = ("{python}", "-m", "functions_framework", "--host", HOST, "--port", "{port}", "--target", "main")
_BIND = f"{HOST}:{{port}}"

SERVERS = {
    OURS: Server(
        OURS,
        ("{python}", "-P", "-m", "runtime", "--dir", "{folder}/project", "serve", "--only", "http", "--bind", _BIND),
        "this checkout, its defaults",
    ),
    "starlette": Server("starlette", _uvicorn("starlette_app:app"), "uvicorn[standard], with msgspec for JSON"),
    "fastapi": Server("fastapi", _uvicorn("fastapi_app:app"), "uvicorn[standard]"),
    "blacksheep": Server("blacksheep", _uvicorn("blacksheep_app:app"), "uvicorn[standard], with pydantic"),
    "robyn": Server(
        "robyn",
        ("{python}", "robyn_app.py", "{port}", "--processes", "1", "--workers", "1", "--log-level", "WARN"),
        "one process, one worker, with pydantic",
    ),
    "flask": Server(
        "flask",
        ("{python}", "-m", "gunicorn", "flask_app:app", "--bind", _BIND, "--worker-class", "gthread", "--threads", "8",
         "--keep-alive", "75", "--log-level", "warning"),
        "gunicorn, one worker of 8 threads",
    ),
    "functions-framework": Server(
        "functions-framework",
        (*_FRAMEWORK, "--source", "functions_framework_app.py"),
        "gunicorn, one worker, its own default threads",
        without=("routes",),
    ),
    "functions-framework-asgi": Server(
        "functions-framework",
        (*_FRAMEWORK, "--source", "functions_framework_asgi_app.py", "--asgi"),
        "--asgi: gunicorn with a uvicorn worker",
        without=("routes", "sync"),
    ),
    "uvicorn": Server(
        "starlette", _uvicorn("uvicorn_app:app"), "a bare ASGI app", limit=True, without=("routes", "sync")
    ),
    "bare": Server(
        "bare",
        ("{python}", "bare_app.py", "{port}"),
        "a protocol on uvloop and httptools, nothing else",
        limit=True,
        without=("routes", "sync", "stream"),
    ),
    "nginx": Server(
        None,
        ("nginx", "-p", "{folder}", "-c", "{folder}/nginx.conf"),
        "`return`: the limit of the client",
        limit=True,
        without=("routes", "sync", "stream", "up-100kB", "down-100kB", "up-10MB", "down-10MB"),
    ),
}  # fmt: skip


def find_program(name: str) -> str:
    """Its environment's python, or a program of the system. NotInstalledError says what is missing."""
    environment = SERVERS[name].environment
    if environment is not None:
        return str(environments.prepare(environment))
    wanted = SERVERS[name].command[0]
    found = shutil.which(wanted) or shutil.which(wanted, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise environments.NotInstalledError(f"there is no {wanted} on PATH")
    return found


class Running(NamedTuple):
    """A server that answers. start_seconds: from its start to its first right answer."""

    port: int
    pid: int
    start_seconds: float


@contextmanager
def serve(name: str, program: str, core: int | None, routes: int = 0) -> Iterator[Running]:
    """One server on its core, with so many routes more."""
    with tempfile.TemporaryDirectory(prefix="fnrun-bench-", ignore_cleanup_errors=True) as temporary:
        folder, port = Path(temporary), processes.free_port()
        _lay_out(folder, port, routes)
        filled = [part.format(python=program, port=port, folder=folder) for part in SERVERS[name].command]
        environ = processes.clean_environ(BENCH_ROUTES=str(routes))
        began = time.perf_counter()
        with processes.pinned(core):
            process = processes.start([program, *filled[1:]], folder / "log", APPS, environ)
        try:
            processes.wait_until_up(process, port, "/hello?name=x")
            yield Running(port, process.pid, time.perf_counter() - began)
        except BenchmarkError as error:
            raise BenchmarkError(f"{name}: {error}; the end of its output:\n{processes.tail(folder / 'log')}") from None
        finally:
            processes.stop(process)


def _lay_out(folder: Path, port: int, routes: int) -> None:
    """What the servers that want a folder want in it."""
    shutil.copytree(APPS / "fnrun", folder / "project", ignore=shutil.ignore_patterns("__pycache__", ".fnrun"))
    if routes:
        one = '@http.get("/r{0}")\nasync def r{0}(name: str = "world") -> dict[str, str]:\n    return {{"message": f"Hello {{name}}"}}\n'  # noqa: E501
        text = "from runtime import http\n\n" + "\n".join(one.format(number) for number in range(routes))
        (folder / "project" / "functions" / "routes.py").write_text(text)
    config = (APPS / "nginx.conf").read_text().replace("PORT", str(port)).replace("FOLDER", str(folder))
    (folder / "nginx.conf").write_text(config)
