"""Requests to others, sent to real servers on this machine; names are looked up by a resolver of the test's own."""

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import trustme

from runtime.base.webhooks import secret_of
from runtime.outgoing.sender import Sender, Sent
from tests.receivers import Receiver, new_secret

SECRET = new_secret()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def send(url: str, sender: Sender | None = None, *, private: bool = True, timeout_seconds: float = 10.0) -> Sent:
    sending = (sender or Sender()).send(
        url,
        b'{"a":1}',
        secrets=[secret_of(SECRET)],
        message_id="m1",
        timestamp=int(time.time()),
        private=private,
        timeout_seconds=timeout_seconds,
    )
    return asyncio.run(sending)


HERE = """
    127.0.0.1 localhost LOCALHOST localhost. 127.1 2130706433 0x7f000001 0x7f.1 017700000001 0 0.0.0.0 [::1] [::]
    [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:7f00:0001] [::127.0.0.1] [64:ff9b::7f00:1]
"""


class Names:
    """A resolver: each time it is asked for a name, the next of its answers, the last one for ever."""

    def __init__(self, *answers: str) -> None:
        self.answers = [answer.split() for answer in answers]
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_what_is_sent_is_signed_and_the_public_library_takes_it(receiver: Receiver):
    sent = send(receiver.url + "?x=1")
    assert (sent.status, sent.is_good, sent.told) == (204, True, "")
    (request,) = receiver.requests
    assert request.verified(SECRET) == {"a": 1}
    assert (request.path, request.headers["content-type"]) == ("/hook?x=1", "application/json")
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize(
    "host",
    HERE.split(),
)
def test_no_way_to_write_this_machine_leads_to_it(receiver: Receiver, host: str):
    sent = send(f"http://{host}:{receiver.port}/", private=False)
    assert sent.status is None
    assert sent.refused or "Name or service not known" in sent.error
    assert receiver.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        "169.254.169.254",
        "10.0.0.7",
        "fd00:ec2::254",
        "::1",
        "93.184.216.34 127.0.0.1",
        "2606:4700::1111 ::ffff:10.0.0.1",
    ],
)
def test_a_name_that_leads_to_a_private_address_too_is_refused_and_it_is_not_told_which(answer: str):
    sent = send("https://rebind.example.com/", Sender(Names(answer)), private=False)
    assert sent.refused
    assert answer.rsplit(maxsplit=1)[-1] not in sent.told


def test_a_name_is_looked_up_once_and_what_it_says_later_does_not_count(receiver: Receiver):
    names = Names("127.0.0.1", "203.0.113.1")
    assert send(f"http://hook.example.com:{receiver.port}/", Sender(names)).is_good
    assert names.asked == ["hook.example.com"]
    assert receiver.requests[0].headers["host"] == f"hook.example.com:{receiver.port}"


def test_if_one_address_does_not_answer_the_next_is_tried(receiver: Receiver):
    assert send(f"http://hook.example.com:{receiver.port}/", Sender(Names("127.0.0.2 127.0.0.1"))).is_good
    assert "ConnectError" in send(f"http://127.0.0.2:{receiver.port}/").told


def test_a_redirect_is_not_followed(receiver: Receiver):
    other = Receiver()
    receiver.status, receiver.headers = 307, {"location": other.url}
    assert send(receiver.url).told == "it answered 307"
    assert other.requests == []
    other.close()


def test_no_proxy_of_the_environment_is_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert send(receiver.url).is_good


def test_a_body_without_an_end_is_not_waited_for(receiver: Receiver):
    over = threading.Event()

    def write(handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not over.is_set():
                handler.wfile.write(b"x" * 100_000)
        except OSError:
            over.set()

    receiver.answer = write
    assert send(receiver.url).status == 200
    assert over.wait(15)  # we have hung up


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nx: "])
def test_whoever_does_not_answer_in_time_is_not_waited_for(receiver: Receiver, said: bytes):
    over = threading.Event()

    def drip(handler) -> None:
        handler.wfile.write(said)
        while said and not over.wait(0.05):
            handler.wfile.write(b"y")
        over.wait(20)

    receiver.answer = drip
    sent = send(receiver.url, timeout_seconds=0.5)
    over.set()
    assert (sent.status, sent.told) == (None, "no answer within 0.5 s")


def test_heads_that_are_too_long_and_what_is_no_http_are_errors(receiver: Receiver):
    for content in (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000, b"\x00\xff" * 50, b"SSH-2.0\r\n\r\n"):
        receiver.answer = lambda handler, content=content: _write(handler, content)
        sent = send(receiver.url)
        assert sent.status is None
        assert sent.error


def _write(handler, content: bytes) -> None:
    with suppress(OSError):
        handler.wfile.write(content)


@pytest.mark.parametrize(("said", "seconds"), [("7", 7.0), ("x", None), ("-1", None), ("", None)])
def test_how_long_a_receiver_asks_to_wait_is_told(receiver: Receiver, said: str, seconds: float | None):
    receiver.status, receiver.headers = 503, {"retry-after": said}
    assert send(receiver.url).retry_after == seconds
    receiver.headers = {"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}
    assert (send(receiver.url).retry_after or 0) > 1e6


def test_a_certificate_is_checked_against_the_name_and_those_we_trust(receiver: Receiver):
    authority = trustme.CA()
    served, trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("hook.example.com").configure_cert(served)
    authority.configure_trust(trust)
    receiver.server.socket = served.wrap_socket(receiver.server.socket, server_side=True)
    names = Names("127.0.0.1")
    assert send(f"https://hook.example.com:{receiver.port}/", Sender(names, trust)).is_good
    assert "certificate" in send(f"https://other.example.com:{receiver.port}/", Sender(names, trust)).told
    assert "certificate" in send(f"https://hook.example.com:{receiver.port}/", Sender(names)).told
    assert len(receiver.requests) == 1
