"""Whoever gets our webhooks: a real HTTP server that verifies each with the public library."""

import base64
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

HOST = "127.0.0.1"


class Receiver:
    """What came, verified. answers: statuses of the next requests; 204 after them."""

    def __init__(self) -> None:
        self.secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        self.answers: list[int] = []
        self.messages: list[tuple[str, dict[str, Any]]] = []
        """(webhook-id, body) of each that was taken."""
        self.refused: list[str] = []
        """webhook-ids of those that were answered otherwise."""
        self.forged: list[Exception] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(receiver.take(dict(self.headers), body))
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def take(self, headers: dict[str, str], body: bytes) -> int:
        given = {name.lower(): value for name, value in headers.items()}
        try:
            verified = Webhook(self.secret).verify(body, given)
        except Exception as error:  # noqa: BLE001 - whatever the library raises
            self.forged.append(error)
            return 400
        status = self.answers.pop(0) if self.answers else 204
        if status < 300:
            self.messages.append((given["webhook-id"], verified if verified is not None else json.loads(body)))
        else:
            self.refused.append(given["webhook-id"])
        return status

    @property
    def types(self) -> list[str]:
        return [body["type"] for _, body in self.messages]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@contextmanager
def a_receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()
