"""Put the parts together and run them: the composition root.

Called by cli. Knows every layer; no layer knows it. `serve` is the HTTP role; `dev` runs it as a child and starts it
anew whenever a file changes.
"""

import asyncio
import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from runtime.base import logs
from runtime.base.errors import StartError
from runtime.base.keys import KeyFile
from runtime.base.settings import FILE_NAME, NOTHING, HttpSettings, Loaded, Settings, load_settings
from runtime.declare.context import log_fields
from runtime.declare.loader import load
from runtime.declare.modules import PACKAGE
from runtime.declare.registry import Registry
from runtime.declare.triggers import Http

if TYPE_CHECKING:  # the HTTP role alone loads them
    from runtime.invoke.invoker import Invoker
    from runtime.triggers.http.app import Shell
    from runtime.triggers.http.core import HttpCore

log = logs.get_logger(__name__)

_BACKLOG = 2048
_CLOSE_SECONDS = 2.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Project(msgspec.Struct, frozen=True):
    """A folder with functions/: its settings and its functions."""

    root: Path
    loaded: Loaded
    registry: Registry

    @property
    def settings(self) -> Settings:
        """The settings alone."""
        return self.loaded.settings


def load_project(root: Path, overrides: Mapping[str, str] = NOTHING) -> Project:
    """Settings and functions of the project in `root`; see load_settings for `overrides`."""
    loaded = load_settings(root, overrides)
    return Project(root, loaded, load(root, loaded.settings.functions))


def open_socket(bind: str) -> socket.socket:
    """A listening socket on "host:port" or "[v6]:port". StartError if it cannot be had."""
    host, _, port = bind.rpartition(":")
    host = host.strip("[]") or "0.0.0.0"  # noqa: S104 - ":8000" asks for every interface
    if not port.isdecimal():
        raise StartError(f'http.bind: {bind!r} is not "host:port", "127.0.0.1:8000" for instance')
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, int(port)))
        sock.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise StartError(
            f"cannot listen on {bind}: {reason}; stop what uses it, or choose another with --bind or [http] bind"
        ) from None
    return sock


def is_loopback(sock: socket.socket) -> bool:
    """Whether only this machine can reach a listening socket."""
    return sock.getsockname()[0] in _LOOPBACK


def url_of(sock: socket.socket, settings: HttpSettings) -> str:
    """The address of a listening socket, for people."""
    host, port = sock.getsockname()[:2]
    scheme = "https" if settings.certfile else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def check_tls(root: Path, settings: HttpSettings) -> None:
    """StartError if what the settings say of TLS cannot be had. To be asked before anything listens."""
    from runtime.triggers.http.tls import load_tls  # noqa: PLC0415 - the HTTP role alone needs it

    load_tls(root, settings)


def stop_at_once_until_served() -> None:
    """Let SIGTERM end the process while it still loads. As PID 1 it would be ignored without a handler."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))


def serve(project: Project, sock: socket.socket, *, dev: bool = False, lifeline: bool = False) -> NoReturn:
    """Serve HTTP until SIGTERM or SIGINT, then drain and end the process. lifeline: also stop when stdin ends.

    dev on a loopback address: open to local callers without a key.
    """
    settings = project.settings
    logs.configure(style=settings.log.format, level=settings.log.level, fields=log_fields)
    for failure in project.registry.failures:
        log.error(f"does not load: {failure}\n{failure.traceback}".rstrip())
    open_locally = dev and is_loopback(sock)
    runner = asyncio.Runner(loop_factory=_loop_factory())
    left = runner.run(_serve_http(project, sock, open_locally=open_locally, lifeline=lifeline))
    if left:
        log.warning("handlers are left at work", count=left)
    log.info("stopped")
    end_process(0)


def end_process(code: int) -> NoReturn:
    """End now, after what was registered with atexit. Python itself would first wait for threads that may never end."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _announce(project: Project, url: str) -> None:
    functions = project.registry.functions.values()
    log.info("listening", url=url, functions=len(functions), failures=len(project.registry.failures))
    public = [
        function.name
        for function in functions
        for trigger in function.triggers
        if isinstance(trigger, Http) and (trigger.auth or project.settings.http.auth) == "public"
    ]
    if public:
        log.info("public functions, callable without a key", functions=sorted(set(public)))


def _loop_factory() -> Any:
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


@dataclass(frozen=True)
class HttpRole:
    """The HTTP role, put together: what serves, and what stopping it needs."""

    app: Any
    shell: "Shell"
    core: "HttpCore"
    invoker: "Invoker"


def build_http(project: Project, *, open_locally: bool = False) -> HttpRole:
    """The ASGI application of a project. Call it inside the loop that will run it."""
    # Imported here: the CLI's other commands need no server, and start in half the time.
    from runtime.admin.api import add_api  # noqa: PLC0415
    from runtime.invoke.invoker import Invoker  # noqa: PLC0415
    from runtime.triggers.http.access import Access  # noqa: PLC0415
    from runtime.triggers.http.app import Shell, build_app  # noqa: PLC0415
    from runtime.triggers.http.core import HttpCore  # noqa: PLC0415

    settings = project.settings
    invoker = Invoker(project.registry, threads=settings.serve.threads)
    access = Access(KeyFile(project.root), open_locally=open_locally)
    core = HttpCore(project.registry, invoker, settings.http, access)
    add_api(core, project.registry, invoker, settings.http)
    shell = Shell(core, log_all=settings.log.requests == "all")
    return HttpRole(build_app(shell), shell, core, invoker)


async def _serve_http(project: Project, sock: socket.socket, *, open_locally: bool, lifeline: bool) -> int:
    """Serve until told to stop. Returns how many handlers could not be ended."""
    from runtime.triggers.http.server import serve_app, wire_of  # noqa: PLC0415 - as above

    settings = project.settings
    stop = _stop_event(lifeline=lifeline)
    role = build_http(project, open_locally=open_locally)
    wire = wire_of(project.root, settings.http)
    _announce(project, url_of(sock, settings.http))

    async def drain() -> None:
        await stop.wait()
        role.core.draining = True
        log.info("stopping", in_flight=role.shell.in_flight, drain_seconds=float(settings.serve.drain))
        if not await role.shell.idle(float(settings.serve.drain)):
            log.warning("drain time is over", in_flight=role.shell.in_flight)
            role.shell.give_up()
            await role.shell.idle(_CLOSE_SECONDS)

    await serve_app(role.app, sock, drain, wire, alone=not lifeline)  # with a lifeline, a parent has the socket, too
    role.invoker.threads.close()
    return await _end_tasks() + role.invoker.threads.busy


async def _end_tasks() -> int:
    """Cancel whatever still runs on this loop; how many tasks ignored it."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
    return sum(1 for task in tasks if not task.done())


def _stop_event(*, lifeline: bool) -> asyncio.Event:
    """Set by SIGTERM, SIGINT, and the end of stdin. A second signal ends the process at once."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            end_process(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if lifeline:

        def on_input() -> None:
            if not os.read(0, 1024):
                loop.remove_reader(0)
                stop.set()

        loop.add_reader(0, on_input)
    return stop


def dev(root: Path, sock: socket.socket, environ: Mapping[str, str] = os.environ) -> None:
    """Serve as a child and start it anew whenever something in functions/ or functions.toml changes.

    The socket is this process's, so that a request that comes between two children waits instead of failing. A child
    that ends by itself is said so, and started anew at the next change.
    """
    from watchfiles import watch  # noqa: PLC0415 - only dev watches

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    child = _start_child(root, sock, environ)
    told = False
    try:
        # The whole folder is watched: an editor replaces functions.toml, and a watch on the old file would see nothing.
        for changes in watch(
            root, watch_filter=partial(_matters, root), stop_event=stop, rust_timeout=200, yield_on_timeout=True,
            raise_interrupt=False,
        ):  # fmt: skip
            if changes:
                names = sorted({os.path.relpath(path, root) for _, path in changes})
                log.info("changed, starting anew", files=names)
                _end_child(child)
                child, told = _start_child(root, sock, environ), False
            elif child.poll() is not None:
                if not told:
                    log.error(
                        "the server ended; mend what is wrong and save, and it starts anew", code=child.returncode
                    )
                told = True
                _answer_for_nobody(sock)
    finally:
        _end_child(child)


def _answer_for_nobody(sock: socket.socket) -> None:
    """503 to whoever calls while no child is there, instead of silence."""
    body = b'{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the server ended; see its log"}'
    head = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
    sock.settimeout(0)
    with suppress(BlockingIOError):
        while True:
            connection, _ = sock.accept()
            with connection, suppress(OSError):
                connection.settimeout(0.2)
                connection.recv(65536)
                connection.sendall(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))


_IGNORED = frozenset({"__pycache__", ".git", ".venv", "node_modules", ".fnrun"})


def _matters(root: Path, _change: object, path: str) -> bool:
    """Whether a changed file is one of the project's: functions.toml, or anything in functions/ but droppings."""
    parts = Path(os.path.relpath(path, root)).parts
    if _IGNORED & set(parts) or parts[-1].endswith(("~", ".swp", ".pyc")):
        return False
    return parts[0] in (PACKAGE, FILE_NAME)


def _start_child(root: Path, sock: socket.socket, environ: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    # -P: a file of the project's called like a module of ours shall not stand in for it.
    command = [sys.executable, "-P", "-m", "runtime", "--dir", str(root), "serve-child", "--fd", str(sock.fileno())]
    # A session of its own: Ctrl-C reaches the parent alone, which then ends the child in order.
    return subprocess.Popen(  # noqa: S603 - our own command
        command, stdin=subprocess.PIPE, pass_fds=[sock.fileno()], env=dict(environ), start_new_session=True
    )


def _end_child(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(_CLOSE_SECONDS * 4)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdin is not None:
        child.stdin.close()
