"""Somebody else's server, that gets our webhooks: it keeps each request, and answers as it is told."""

import base64
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook
from typing_extensions import override


def new_secret() -> str:
    """A signing secret, as people write it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class Request:
    """One that came. headers: by their names in lower case."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path, self.headers, self.body = path, headers, body
        self.id = headers.get("webhook-id", "")

    def verified(self, secret: str) -> Any:
        """What it says; raises if the public library does not take its signature."""
        return Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """Listens on this machine until `close`. status: what it answers, after so many seconds; or `answer` writes it."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.status, self.headers, self.seconds = 204, dict[str, str](), 0.0
        self.answer: Callable[[BaseHTTPRequestHandler], None] | None = None
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                found = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append(Request(self.path, found, body))
                time.sleep(receiver.seconds)
                if receiver.answer is not None:
                    receiver.answer(self)
                    return
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            @override
            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            @override
            def handle_error(self, *_: object) -> None: ...  # a sender that gives up

        self.server = Server(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def port(self) -> int:
        return self.server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
