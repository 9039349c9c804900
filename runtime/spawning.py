"""Start a child process of ours: of which kinds there are, what each inherits and is told.

Used by processes and the supervisor, and by the command line for the first child of all, which begins while its parent
still loads; and by the child. So it loads no asyncio. Waits for nobody.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence

import msgspec

from runtime.base.pulse import Pulse
from runtime.observe.board import Place, take_place

_END_SECONDS = 15.0
"""What a child may take longer than its drain time, to close what is open."""
_QUIT_SECONDS = 2.0
"""Of these, what a worker may take before it is told to leave its work."""
_CALLED = {"http": "an HTTP process", "scheduler": "a scheduler", "worker": "a worker", "ops": "the process of [ops]"}


class Team(msgspec.Struct, frozen=True, kw_only=True):
    """Processes of one kind.

    name: "http", "scheduler", "worker" or "ops". command: of each; `--line FD` is added, `--fd FD` where there is a
    sock, and `--announce` for the one that says what does not load. sock: the listening socket that they share and
    inherit. url: its address. alone: two cannot be there at once, as when they answer HTTP/3.
    """

    name: str
    command: tuple[str, ...]
    count: int = 1
    sock: socket.socket | None = None
    url: str = ""
    alone: bool = False

    @property
    def first_command(self) -> tuple[str, ...]:
        """Of the first of all: what does not load, and what the store lacks, is said by one of the children only."""
        return (*self.command, "--announce", "--first")

    @property
    def serves(self) -> bool:
        """Whether callers of functions come to it."""
        return self.sock is not None and self.name != "ops"

    @property
    def called(self) -> str:
        """One of them, for people."""
        return _CALLED[self.name]

    def patience(self, drain_seconds: float) -> tuple[float, float | None]:
        """How long one may take to end, and after how long SIGQUIT tells it not to wait for its work: see Child.end."""
        quits = drain_seconds + _QUIT_SECONDS if self.name == "worker" else None
        return drain_seconds + _END_SECONDS, quits


class Spawned(msgspec.Struct, frozen=True):
    """A child, the parent's end of the line to it, what it is watched by, where it counts."""

    process: subprocess.Popen[bytes]
    line: socket.socket
    pulse: Pulse
    place: Place


def spawn(command: Sequence[str], environ: Mapping[str, str], sock: socket.socket | None = None) -> Spawned:
    """Start `COMMAND --line FD --pulse FD --counts FD:PLACE`, with `--fd SOCK` where there is a socket. OSError.

    In a session of its own: Ctrl-C reaches the parent alone, which ends it in order.
    """
    line, theirs = socket.socketpair()
    with theirs:
        listening = [] if sock is None else ["--fd", str(sock.fileno())]
        fds = [one.fileno() for one in (theirs, sock) if one is not None]
        try:
            pulse, place = Pulse.make(), take_place()
        except OSError:
            line.close()
            raise
        told = ["--line", str(theirs.fileno()), "--pulse", str(pulse.fd), "--counts", str(place), *listening]
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [*command, *told], stdin=subprocess.DEVNULL, env=dict(environ), start_new_session=True,
                pass_fds=[*fds, pulse.fd, *place.fds],
            )  # fmt: skip
        except OSError:
            line.close()
            pulse.close()
            place.free()
            raise
    return Spawned(process, line, pulse, place)


def stop_at_once_until_served(begun: Spawned | None = None) -> None:
    """Let SIGTERM end the process while it still loads. As PID 1 it would be ignored without a handler.

    begun: a child that ends with it, and not only once that has loaded: until then it would hold the listening socket.
    """

    def stop(*_: object) -> None:
        if begun is not None:
            begun.process.terminate()
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
