"""The auditors find what they are there to find."""

from redis import Redis

from tests.ledger.audit import misplaced
from tests.ledger.keys import stray_keys
from tests.ledger.trial import START, Trial


def test_keys_that_nobody_accounts_for_are_found(client: Redis):
    trial = Trial(client, "odd")
    trial.works()
    done, kept = trial.accept(), trial.accept(dedupe="x", payload=b"[%d]" % 10**70)
    trial.finish(trial.claim_one())
    assert stray_keys(client, "odd") == []
    client.set("odd:rubbish", 1)
    client.set("odd:strange:x", 1)
    client.set("odd:out:nobody", 1)
    client.persist(f"odd:run:{done}")
    client.expire(f"odd:in:{kept}", 100)
    client.persist("odd:dedupe:1:f:x")
    assert stray_keys(client, "odd") == [
        "odd:dedupe:1:f:x: has no time to live",
        f"odd:in:{kept}: goes before its open run",
        "odd:out:nobody: its run is gone, and it stays",
        "odd:rubbish: no key of ours",
        f"odd:run:{done}: has no time to live, and its run is succeeded",
        "odd:strange:x: no key of ours",
    ]
    assert len(stray_keys(client, "odd", lasting=("strange:", "rubbish"))) == 4
    assert stray_keys(client, "another") == []


def test_runs_in_no_place_or_two_are_found(client: Redis):
    trial = Trial(client, "odd")
    trial.works("w", "f")
    lost, twice, listed, parked = (trial.accept(id=name) for name in ("lost", "twice", "listed", "parked"))
    assert misplaced(client, "odd") == []
    client.zrem("odd:ready:default", lost)
    client.zadd("odd:due:default", {twice: START})
    client.zrem("odd:open:f", listed)
    client.zadd("odd:ready:other", {"nobody": 1})
    client.hset(f"odd:run:{parked}", "fn", "g")
    found = misplaced(client, "odd")
    assert "lost is queued and in no place" in found
    assert any(fault.startswith("twice is queued and in {") for fault in found)
    assert any(fault.startswith("listed is queued and in the lists set()") for fault in found)
    assert "ready has nobody, which is no run" in found
    assert "parked of g in default is in open of {'f'}" in found
    assert len(found) == 5
