"""A real Valkey for the session, and for each test a ledger on a namespace of its own, audited at its end."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from redis import Redis

from runtime.ledger.desk import Desk
from tests.desks import desk_in_use
from tests.ledger.audit import misplaced
from tests.ledger.keys import stray_keys
from tests.ledger.trial import Trial
from tests.stores import private_store

_numbers = count(1)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of an embedded store's server. It ends with us, however we end."""
    with private_store(tmp_path_factory.mktemp("ledger")) as store:
        yield Path(store.connect().get_connection_kwargs()["path"])


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


@pytest.fixture
def desk(valkey: Path, trial: Trial) -> Iterator[Desk]:
    """The desk of this process, on the trial's ledger."""
    with desk_in_use(f"unix://{valkey}", trial.namespace, trial.ledger) as desk:
        yield desk
