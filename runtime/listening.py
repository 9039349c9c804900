"""The socket that HTTP listens on: made by whoever starts the processes, handed to those that serve.

Called by cli and roles.
"""

import socket

from runtime.base.errors import StartError
from runtime.base.sections import HttpSettings

_BACKLOG = 2048
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def open_socket(bind: str, name: str = "http.bind") -> socket.socket:
    """A listening socket on "host:port" or "[v6]:port". StartError if it cannot be had. name: of the setting."""
    host, _, port = bind.rpartition(":")
    host = host.strip("[]") or "0.0.0.0"  # noqa: S104 - ":8000" asks for every interface
    if not port.isdecimal():
        raise StartError(f'{name}: {bind!r} is not "host:port", "127.0.0.1:8000" for instance')
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, int(port)))
        sock.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or str(error)
        where = "--bind or [http] bind" if name == "http.bind" else f"[{name.replace('.', '] ')}"
        raise StartError(
            f"cannot listen on {bind}: {reason}; stop what uses it, or choose another with {where}"
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
