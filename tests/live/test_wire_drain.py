"""The end of a server under load: answers or refusals, never a reset."""

import os
import signal
import socket
import threading
import time
from collections import Counter

import pytest

from tests.live_servers import until
from tests.wire_servers import hear

pytestmark = pytest.mark.live

APP = {
    "functions/app.py": """
        import asyncio
        from runtime import http

        @http.get("/fast")
        async def fast() -> str:
            return "fast"
        """
}
ENVIRON = {"FNRUN_HTTP__AUTH": "public", "FNRUN_HTTP__BIND": "127.0.0.1:0"}


@pytest.mark.parametrize("kept", [False, True], ids=["a connection each", "kept alive"])
def test_clients_that_connect_through_the_end_see_answers_or_refusals(write_project, start, kept: bool):
    server = start(write_project(**APP), "serve", environ=ENVIRON)
    port = server.port
    outcomes: Counter[str] = Counter()
    over = threading.Event()

    def call_on() -> None:
        while not over.is_set():
            outcomes[_call(port, kept=kept)] += 1

    callers = [threading.Thread(target=call_on) for _ in range(8)]
    for caller in callers:
        caller.start()
    until(lambda: outcomes["200"] >= 8)
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    over.set()
    for caller in callers:
        caller.join()
    assert outcomes["200"] >= 8, outcomes
    assert outcomes["refused"] > 0
    assert set(outcomes) <= {"200", "503", "refused", "closed before it asked"}


def _call(port: int, *, kept: bool) -> str:
    """One connection: what became of it."""
    try:
        sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    except ConnectionRefusedError:
        time.sleep(0.01)
        return "refused"
    with sock:
        if kept:
            for _ in range(5):
                sock.sendall(b"GET /fast HTTP/1.1\r\nHost: a\r\n\r\n")
                heard = sock.recv(65536)
                if not heard.startswith(b"HTTP/1.1 200 "):
                    break
            else:
                return "200"
            # The server's end may cross a request: RFC 9112, 9.3.1. A whole answer or none is what counts.
            return "closed before it asked" if not heard else _status(heard)
        sock.sendall(b"GET /fast HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return _status(hear(sock))


def _status(heard: bytes) -> str:
    return heard.split()[1].decode() if heard.startswith(b"HTTP/1.1 ") else f"broken: {heard!r}"


def test_whom_the_kernel_has_let_in_is_answered(write_project, start):
    """They wait in its queue while the server is stopped; it learns of them and of its end at once."""
    server = start(write_project(**APP), "serve", environ=ENVIRON)
    port = server.port
    assert _call(port, kept=False) == "200"
    pid = server.serving
    os.kill(pid, signal.SIGSTOP)
    waiting = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(300)]
    for sock in waiting[:150]:
        sock.sendall(b"GET /fast HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    server.process.send_signal(signal.SIGTERM)
    os.kill(pid, signal.SIGCONT)
    time.sleep(0.1)
    for sock in waiting[150:]:  # these speak a little later
        sock.sendall(b"GET /fast HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    statuses = Counter(_status(hear(sock)) for sock in waiting)
    assert sum(statuses.values()) == 300
    assert set(statuses) <= {"200", "503"}
    for sock in waiting:
        sock.close()
    assert server.wait() == 0
