"""The keeper as a program, without the process that usually starts it."""

import fcntl
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from runtime.base import keeper
from runtime.base.embedded import find_server
from tests.live_servers import until

pytestmark = pytest.mark.live


class Kept:
    """A keeper of a folder, and a user of its store, which is this test."""

    def __init__(self, folder, server: str = "") -> None:
        self.folder = folder
        self.path = str(folder / "valkey.sock")
        self.users = keeper.lock_file(str(folder / keeper.USERS), fcntl.LOCK_SH)
        lock = keeper.lock_file(str(folder / keeper.KEEPER), fcntl.LOCK_EX)
        heard, told = os.pipe()
        # Not with -S, as it is really run: what it does is measured here.
        self.process = subprocess.Popen(
            [sys.executable, keeper.__file__, folder, self.path, server or find_server(), str(lock), str(told)],
            pass_fds=(lock, told),
        )
        os.close(lock)
        os.close(told)
        self.said = os.fdopen(heard)

    @property
    def server(self) -> int:
        with suppress(OSError, ValueError):
            return int((self.folder / keeper.PID).read_text())
        return 0

    def is_ready(self) -> bool:
        return keeper.ask(self.path, b"PING") == b"+PONG"

    def leave(self) -> int:
        """Use the store no more; the keeper's exit code."""
        os.close(self.users)
        self.said.close()
        return self.process.wait(10)


def test_it_keeps_a_server_until_nobody_is_left(tmp_path):
    kept = Kept(tmp_path)
    assert kept.said.readline() == "ready\n"
    assert int((tmp_path / keeper.KEEPER).read_text()) == kept.process.pid
    for _ in range(3):
        server = kept.server
        os.kill(server, signal.SIGKILL)
        until(lambda old=server: kept.server not in (0, old) and kept.is_ready())
    kept.process.send_signal(signal.SIGTERM)
    assert kept.is_ready()
    assert kept.leave() == 0
    assert not kept.is_ready()


@pytest.mark.parametrize("frozen", [False, True])
def test_it_ends_a_server_that_was_left_behind(tmp_path, frozen):
    first = Kept(tmp_path)
    assert first.said.readline() == "ready\n"
    left = first.server
    first.process.kill()
    if frozen:
        os.kill(left, signal.SIGSTOP)
    first.leave()
    second = Kept(tmp_path)
    assert second.said.readline() in ("ready\n", "loading\n")
    until(second.is_ready)
    assert second.server != left
    assert second.leave() == 0


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("#!/bin/sh\necho '1:M 1 Jan # WARNING x'\necho '1:M 1 Jan # It cannot be'\n", "It cannot be\n"),
        ("#!/bin/sh\necho plain words\n", "plain words\n"),
        ("#!/bin/sh\n", "it ended without a word\n"),
        ("#!/bin/sh\nkill -SEGV $$\n", "signal 11 ended it while it started, 5 times\n"),
        ("\x7fELF", "{}/server cannot be run: Exec format error\n"),
    ],
)
def test_it_tells_why_a_server_does_not_come_up_and_ends(tmp_path, script, said):
    (tmp_path / "server").write_text(script)
    (tmp_path / "server").chmod(0o755)
    kept = Kept(tmp_path, str(tmp_path / "server"))
    assert kept.said.read() == said.format(tmp_path)
    assert kept.leave() == 1


def test_a_folder_that_does_not_do_is_told(tmp_path):
    (tmp_path / keeper.LOG).mkdir()
    kept = Kept(tmp_path)
    assert kept.said.read() == f"{tmp_path}/server.log: Is a directory\n"
    assert kept.leave() == 1


def test_the_end_of_an_old_log_is_kept(tmp_path):
    (tmp_path / keeper.LOG).write_bytes(b"an old line\n" * 100_000)
    kept = Kept(tmp_path)
    assert kept.said.readline() == "ready\n"
    assert (tmp_path / keeper.LOG).stat().st_size < 300_000
    assert kept.leave() == 0
