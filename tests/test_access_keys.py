"""Access keys and the audit log in a store; and the keys as a process knows them."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.base.errors import InputError, StoreDown
from runtime.base.keys import make_key
from runtime.declare.request import Request
from runtime.ledger.access import audit as audit_log
from runtime.ledger.access.audit import Actor, audit, read_audit
from runtime.ledger.access.keyring import GRACE_SECONDS, Keyring
from runtime.ledger.access.keys import (
    add_key,
    create_first_key,
    create_key,
    list_keys,
    revoke_key,
    take_over_file,
)
from runtime.ledger.desk import Desk
from runtime.triggers.http.access import Access
from tests.desks import desk_on
from tests.keys import key_for, key_in
from tests.stores import Proxy

ADMIN = Actor(kind="key", id="1", name="ops", address="192.0.2.1")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# --- keys --------------------------------------------------------------------------------------------------------


async def test_of_processes_that_want_the_first_key_at_once_one_gets_it(desk: Desk):
    tokens = await asyncio.gather(*(create_first_key(desk) for _ in range(20)))
    assert sum(token is not None for token in tokens) == 1
    [known] = await list_keys(desk)
    assert (known.key.name, known.key.scopes, known.used_at) == ("first", ("admin",), None)


async def test_the_last_key_that_administers_stays_unless_forced(desk: Desk):
    admin, _ = await create_key(desk, "admin", ["admin"])
    await create_key(desk, "over", ["admin"], lifetime_seconds=-1)
    await create_key(desk, "ci", ["read", "invoke"])
    assert await revoke_key(desk, admin.id) == "last"
    other, _ = await create_key(desk, "other", ["read", "admin"], lifetime_seconds=60)
    assert await revoke_key(desk, admin.id) == "revoked"
    assert await revoke_key(desk, admin.id) == "unknown"
    assert await revoke_key(desk, other.id, forced=True) == "revoked"
    assert [one.key.name for one in await list_keys(desk)] == ["over", "ci"]


async def test_an_older_versions_file_is_taken_over_once(desk: Desk, tmp_path: Path, log):
    token = key_for(tmp_path, "read")
    file = tmp_path / ".fnrun" / "keys.json"
    content = file.read_bytes()
    await asyncio.gather(*(take_over_file(desk, tmp_path) for _ in range(3)))
    [known] = await list_keys(desk)
    assert known.key.is_of(token)
    assert not file.exists()
    await revoke_key(desk, known.key.id)
    file.write_bytes(content)  # as where it could not be set aside: what is revoked stays so
    await take_over_file(desk, tmp_path)
    assert await list_keys(desk) == []


# --- a process's view --------------------------------------------------------------------------------------------


async def test_a_new_key_is_known_at_once_and_a_revoked_one_refused_at_the_next_look(desk: Desk, clock: Clock):
    ring = Keyring(desk, clock)
    assert ring.is_due()
    await ring.look()
    token = key_in(desk, "read")
    assert ring.verify(token) is None
    assert await ring.look_for(token)
    assert not ring.is_due()
    key = ring.verify(token)
    assert key is not None
    await revoke_key(desk, key.id)
    clock.now += 0.5
    assert ring.is_due()
    await ring.look()
    assert ring.verify(token) is None
    assert not await ring.look_for(token)


async def test_who_calls_at_once_asks_the_store_once(desk: Desk, clock: Clock):
    ring, asked = Keyring(desk, clock), []
    ask = desk.ask
    desk.ask = lambda call: asked.append(call) or ask(call)  # type: ignore[method-assign]
    await asyncio.gather(*(ring.look() for _ in range(50)))
    assert len(asked) == 1


async def test_when_a_key_was_last_used_is_told_once_a_minute(desk: Desk, clock: Clock):
    ring, token = Keyring(desk, clock), key_in(desk, "read")
    await ring.look()

    async def told(after: float | None) -> float | None:
        for _ in range(100):
            [known] = await list_keys(desk)
            if known.used_at != after:
                return known.used_at
            await asyncio.sleep(0.01)  # between two looks
        return None

    assert ring.verify(token) is not None
    first = await told(None)
    assert first is not None
    clock.now += 59
    ring.verify(token)
    await ring.look()
    assert (await list_keys(desk))[0].used_at == first
    clock.now += 2
    await ring.look()  # which is due before anybody is let in
    ring.verify(token)
    assert await told(first) is not None


async def test_known_keys_go_on_for_ten_minutes_without_the_store(valkey: Path, clock: Clock, log):
    proxy = Proxy(valkey)
    desk = desk_on(valkey, "away")
    away = Desk(_Through(proxy), desk.ledger)  # type: ignore[arg-type]
    token, stranger = key_in(desk, "read"), make_key("", ("read",))[1]
    ring = Keyring(away, clock)
    await ring.look()
    proxy.cut()
    clock.now += GRACE_SECONDS - 1
    await ring.look()
    assert ring.verify(token) is not None
    with pytest.raises(StoreDown):  # it may have been made meanwhile
        await ring.look_for(stranger)
    clock.now += 2
    with pytest.raises(StoreDown):
        await ring.look()
    proxy.restore()
    await ring.look()
    assert ring.verify(token) is not None
    await away.aclose()
    proxy.close()
    desk.close()


async def test_a_store_that_hangs_holds_up_nobody_whose_key_is_known(valkey: Path, clock: Clock, log):
    proxy = Proxy(valkey)
    desk = desk_on(valkey, "hangs")
    away = Desk(_Through(proxy), desk.ledger)  # type: ignore[arg-type]
    token, ring = key_in(desk, "read"), Keyring(away, clock)
    await ring.look()
    proxy.freeze()
    clock.now += 1
    async with asyncio.timeout(3):
        await ring.look()
    assert not ring.is_due()
    assert ring.verify(token) is not None
    proxy.close()
    await away.aclose()
    desk.close()


class _Through:
    """A store behind a proxy."""

    namespace, durability, broker_url = "x", "", ""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def connect_async(self):
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        return Redis(port=self._proxy.port, retry=Retry(NoBackoff(), 0), protocol=2)

    def close(self) -> None:
        pass


# --- the audit log -----------------------------------------------------------------------------------------------


async def test_the_log_is_read_in_pages_newest_first(desk: Desk):
    for number in range(5):
        await audit(desk, ADMIN, "queues.pause", f"q{number}", n=number)
    page, cursor = await desk.ask(read_audit(desk.ledger, limit=3))
    assert [(one.target, one.details) for one in page] == [(f"q{n}", {"n": n}) for n in (4, 3, 2)]
    assert page[0].actor == ADMIN
    assert page[0].at >= page[1].at > 1_000_000_000
    rest, cursor = await desk.ask(read_audit(desk.ledger, limit=3, cursor=cursor))
    assert ([one.target for one in rest], cursor) == (["q1", "q0"], "")
    assert (await desk.ask(read_audit(desk.ledger, since=page[0].at + 60)))[0] == []
    with pytest.raises(InputError, match="is no cursor"):
        read_audit(desk.ledger, cursor="(1")


async def test_what_is_too_much_or_too_old_is_forgotten(desk: Desk, monkeypatch):
    monkeypatch.setattr(audit_log, "KEPT_COUNT", 3)
    for number in range(5):
        await audit(desk, ADMIN, "queues.pause", f"q{number}")
    assert [one.target for one in (await desk.ask(read_audit(desk.ledger)))[0]] == ["q4", "q3", "q2"]
    monkeypatch.setattr(audit_log, "KEPT_SECONDS", -1)
    await audit(desk, ADMIN, "queues.pause", "last")
    assert (await desk.ask(read_audit(desk.ledger)))[0] == []


async def test_long_texts_are_cut(desk: Desk):
    await audit(desk, ADMIN, "x", "y" * 5000, text="z" * 5000)
    [entry] = (await desk.ask(read_audit(desk.ledger)))[0]
    assert (len(entry.target), len(entry.details["text"])) == (1000, 1003)


def test_keys_made_at_once_are_all_kept(desk: Desk):
    with ThreadPoolExecutor(20) as pool:
        tokens = set(pool.map(lambda _: key_in(desk, "read"), range(20)))
    assert len(tokens) == 20


def test_a_key_is_not_written_over(desk: Desk):
    key, _ = make_key("a", ("read",))
    assert [desk.ask_sync(add_key(desk.ledger, "new", key)) for _ in range(2)] == [True, False]


async def test_who_calls_with_a_known_key_between_two_looks_waits_for_nobody(desk: Desk, clock: Clock):
    ring, token = Keyring(desk, clock), key_in(desk, "invoke:a.*")
    access = Access(ring)

    def admits(function: str, token: str = token) -> bool:
        request = Request("GET", "/x", headers=[(b"authorization", f"Bearer {token}".encode())])
        return access.admits(request, public=False, action="invoke", function=function)

    assert not admits("a.b")  # nothing is known yet
    await ring.look()
    assert admits("a.b")
    assert not admits("c.b")
    assert not admits("a.b", token + "x")
    clock.now += 1
    assert not admits("a.b")  # a look is due
