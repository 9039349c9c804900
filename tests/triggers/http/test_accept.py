"""Accepting: errors of one connection are no errors of the listener."""

import errno
import os
import socket

import pytest

from runtime.triggers.http.wire.server import Server, Wire


class FailingSocket(socket.socket):
    """A listener of which the first connections are gone before they are accepted."""

    errors: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            number = self.errors.pop()
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.fixture
def listener():
    with FailingSocket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


async def test_errors_of_a_connection_do_not_disturb_the_end(listener: FailingSocket):
    listener.errors = [
        errno.ECONNABORTED, errno.ENETDOWN, errno.EPROTO, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.EHOSTUNREACH,
        errno.EOPNOTSUPP, errno.ENETUNREACH,
    ]  # fmt: skip
    server = Server(lambda *_: None, listener, Wire())
    await server.begin()
    server._on_readable()
    await server.end()
    assert listener.errors == []


async def test_an_error_of_the_listener_is_raised(listener: FailingSocket):
    listener.errors = [errno.EINVAL]
    server = Server(lambda *_: None, listener, Wire())
    await server.begin()
    with pytest.raises(OSError, match="Invalid argument"):
        server._on_readable()
    await server.end()
