"""What a parent does for those whom none of its children will answer."""

import socket
import time

import pytest

from runtime.processes import answer_for_nobody


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_who_asked_gets_a_503(listener):
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer_for_nobody(listener, "the server has stopped")
        answer = client.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b'"detail":"the server has stopped"' in answer


def test_those_who_say_nothing_do_not_hold_it_up(listener):
    clients = [socket.create_connection(listener.getsockname()) for _ in range(50)]
    began = time.monotonic()
    answer_for_nobody(listener, "the server has stopped")
    assert time.monotonic() - began < 10
    for client in clients:
        client.close()
