"""A claim whose answer is lost: what the ledger gave goes back at once, and counts nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as NoConnection

from runtime.base.errors import StoreDown
from runtime.ledger.desk import Desk
from runtime.triggers.queue import claims
from runtime.triggers.queue.claims import Claims
from runtime.triggers.queue.leases import Leases
from tests.desks import submit, view_of


class Losing:
    """A client that loses the answer to each script it is told to: it is carried out."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.loses = False
        self.asked = 0

    def evalsha(self, *arguments: Any) -> Any:
        self.asked += 1
        found = self.client.evalsha(*arguments)
        if self.loses:
            raise NoConnection("reset by peer")
        return found

    def eval(self, *arguments: Any) -> Any:
        return self.client.eval(*arguments)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Say what time it is."""
    now = [1000.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, 1000.0 + seconds)


def test_what_a_lost_answer_brought_is_given_back(desk: Desk, at: Callable[[float], None]):
    client, leases = Losing(desk.store.connect()), Leases()
    claim = Claims(client, desk.ledger, "w", leases)  # type: ignore[arg-type]
    desk.ask_sync(desk.ledger.register("w", {"f": None}, {}))
    ids = [submit(desk, "f") for _ in range(3)]
    (held,) = claim.take(["default"], 1) or ()
    leases.take(held)
    client.loses = True
    with pytest.raises(StoreDown):
        claim.take(["default"], 1)
    assert view_of(desk, ids[1]).state == "running"
    client.loses = False
    found = claim.take(["default"], 1)
    assert [(one.id, one.crashes, one.attempt) for one in found or ()] == [(ids[1], 0, 1)]
    for one in found or ():
        leases.take(one)
    # Another claim of before is carried out only now, as when a frozen store thaws.
    desk.ask_sync(desk.ledger.claim("w", ["default"], 1))
    assert claim.take(["default"], 1) == []
    at(1.5)
    assert [one.id for one in claim.take(["default"], 1) or ()] == [ids[2]]
    assert [view_of(desk, one).state for one in ids] == ["running"] * 3


def test_after_some_seconds_nothing_is_asked_any_more(desk: Desk, at: Callable[[float], None]):
    client = Losing(desk.store.connect())
    claim = Claims(client, desk.ledger, "w", Leases())  # type: ignore[arg-type]
    desk.ask_sync(desk.ledger.register("w", {"f": None}, {}))
    client.loses = True
    with pytest.raises(StoreDown):
        claim.take(["default"], 1)
    client.loses = False
    for seconds in (1, 2, 3, 4, 5, 6, 7):
        at(seconds)
        claim.take(["default"], 1)
    client.asked = 0
    claim.take(["default"], 1)
    assert client.asked == 1
