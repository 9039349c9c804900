"""A real Valkey on a socket of its own, and desks of namespaces in it: a test is the worker itself.

`desk` is what a process would have; `Worker` claims and finishes runs as one would.
"""

import hashlib
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.base.addresses import Address
from runtime.base.ids import trace_of
from runtime.base.sections import StoreSettings
from runtime.base.store import Store
from runtime.declare.context import Context
from runtime.ledger.desk import Desk, in_use, use
from runtime.ledger.ledger import Ledger
from runtime.ledger.records import Adoption, Claimed, Ending, Failure, Submission
from runtime.ledger.views import RunView
from tests.live_servers import until


def desk_on(socket: Path, namespace: str, *, max_length: int = 0) -> Desk:
    """A desk on the server behind a socket."""
    store = Store(Address(scheme="unix", path=str(socket)), namespace, "a test's")
    store.durability = "none: a test's"
    return Desk(store, Ledger(namespace), max_length=max_length)


@contextmanager
def desk_in_use(url: str, namespace: str, ledger: Ledger) -> Iterator[Desk]:
    """The desk of this process, until the end. ledger: it may have a clock of its own."""
    store = Store.open(Path.cwd(), StoreSettings(url=url, namespace=namespace))
    desk, before = Desk(store, ledger), in_use()
    use(desk)
    try:
        yield desk
    finally:
        use(before)
        desk.close()


@pytest.fixture
def desk(valkey: Path) -> Iterator[Desk]:
    """A desk of a namespace that is empty."""
    desk = desk_on(valkey, f"test-{secrets.token_hex(4)}")
    yield desk
    desk.close()


@pytest.fixture
def gone(tmp_path: Path) -> Iterator[Desk]:
    """A desk whose store is away."""
    desk = desk_on(tmp_path / "nobody", "test")
    yield desk
    desk.close()


@pytest.fixture
def frozen() -> Iterator[Desk]:
    """A desk whose store takes connections and never says a word."""
    with tempfile.TemporaryDirectory(prefix="fnrun-") as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/socket")
        listening.listen(64)
        desk = desk_on(Path(folder) / "socket", "test")
        yield desk
        desk.close()


class Worker:
    """What a worker asks of the ledger, step by step."""

    def __init__(self, desk: Desk, *functions: str, queues: tuple[str, ...] = ("default",)) -> None:
        self.desk, self.queues = desk, queues
        desk.ask_sync(desk.ledger.register("tester", dict.fromkeys(functions), {}))

    def claim(self) -> Claimed:
        """The next run."""
        found = self.desk.ask_sync(self.desk.ledger.claim("tester", self.queues, 1))
        assert found, "no run waits"
        return found[0]

    def wait_for_one(self) -> Claimed:
        """The next run, as soon as there is one."""
        found = until(lambda: self.desk.ask_sync(self.desk.ledger.claim("tester", self.queues, 1)))
        return found[0]  # type: ignore[index]

    def finish(self, run: Claimed, result: Any = None) -> None:
        self.end(run, state="succeeded", result=msgspec.json.encode(result))

    def fail(self, run: Claimed, kind: str = "ValueError", message: str = "no", **said: Any) -> None:
        failure = Failure(type=kind, message=message, traceback="Traceback: secret lines")
        self.end(run, **{"state": "failed", "reason": "error", "failure": failure, **said})

    def end(self, run: Claimed, **said: Any) -> None:
        ending = Ending(id=run.id, token=run.token, attempt=run.attempt, worker="tester", **said)
        assert self.desk.ask_sync(self.desk.ledger.finish([ending])) == [True]


def view_of(desk: Desk, run_id: str) -> RunView:
    """All that is known of a run."""
    view = desk.ask_sync(desk.ledger.show([run_id]))[0]
    assert view is not None
    return view


def submit(desk: Desk, function: str, run_id: str | None = None, **said: Any) -> str:
    """Have a run accepted; its id."""
    run = Submission(id=run_id or secrets.token_hex(16), function=function, **said)
    assert desk.ask_sync(desk.ledger.accept([run]))[0].verdict == "accepted"
    return run.id


def refuse_message(desk: Desk, function: str = "shop.sell") -> str:
    """Have a message of a Celery client's become a dead letter; its id."""
    message, run = b'{"body": 1}', Submission(id=secrets.token_hex(16), function=function, trigger="celery")
    key = f"{desk.ledger.prefix}celery:default"
    with desk.store.connect() as client:
        client.lpush(key, message)
    why, digest = Failure(type="BadMessage", message="no"), hashlib.sha1(message).hexdigest()
    one = Adoption(key=key, digest=digest, run=run, refused=why)
    assert desk.ask_sync(desk.ledger.adopt([one])) == ["refused"]
    return run.id


def context(run_id: str, *, is_run: bool) -> Context:
    """What a handler has while it runs; set it as the current one to submit as that handler would."""
    return Context(
        run_id=run_id, function="orders.feed", trigger="submit", attempt=1, env={}, started_at=0, timeout_seconds=None,
        trace=trace_of(run_id, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        report=(lambda _: None) if is_run else None,
    )  # fmt: skip
