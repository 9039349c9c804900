"""Judge the store: its clock, whether it keeps what it is given, whether it has room. Pure."""

from collections.abc import Iterator

from runtime.doctor.checks.saying import Area, size
from runtime.doctor.facts import Facts, Finding, Level, StoreFacts

_SKEW_SECONDS, _BAD_SKEW_SECONDS = 1.0, 10.0
_FULL, _ALL_BUT_FULL = 0.8, 0.95
_SLOW_SECONDS = 0.05

_of = Area("store")


def check_store(facts: Facts) -> Iterator[Finding]:
    """All that can be said of the store; of one that is away, that alone."""
    store = facts.store
    if store.error:
        yield _of.bad("problem", "reached", store.error, "do what the message says; without a store nothing is queued")
        return
    yield _of.ok("reached", f"{store.server} at {store.where}")
    yield _clock(store)
    yield _latency(store)
    yield from _persistence(store)
    yield _eviction(store)
    yield _memory(store)
    yield _connections(store)
    if not (store.embedded or store.loopback):
        yield _password(store)
        yield _tls(store)


def _clock(store: StoreFacts) -> Finding:
    ahead, doubt = abs(store.skew_seconds), store.round_trip_seconds
    text = f"the store's clock is {ahead:.1f} s {'ahead of' if store.skew_seconds > 0 else 'behind'} this machine's"
    if ahead - doubt < _SKEW_SECONDS:
        return _of.ok("clock", text)
    level: Level = "problem" if ahead - doubt >= _BAD_SKEW_SECONDS else "warning"
    fix = "have both machines keep time by NTP: ticks go by the store's clock, keys and logs by this one"
    return _of.bad(level, "clock", text, fix)


def _latency(store: StoreFacts) -> Finding:
    text = f"it answers within {store.round_trip_seconds * 1000:.3g} ms"
    if store.round_trip_seconds < _SLOW_SECONDS:
        return _of.ok("latency", text)
    fix = "put the store near the workers: each run takes several round trips; see whether its machine is busy"
    return _of.bad("warning", "latency", text, fix)


def _persistence(store: StoreFacts) -> Iterator[Finding]:
    fix = "set `appendonly yes` and `appendfsync everysec` in the store's configuration (CONFIG SET appendonly yes)"
    if store.appendonly is None:
        text = "whether it keeps what it is given could not be asked: INFO or CONFIG is not permitted"
        yield _of.bad("warning", "persistence", text, "see that it has an append-only file, or permit both commands")
    elif not store.appendonly and store.save:
        text = f"snapshots alone (save {store.save}): runs of after the last one are lost with the server"
        yield _of.bad("problem", "persistence", text, fix)
    elif not store.appendonly:
        yield _of.bad("problem", "persistence", "none: all runs are lost with the server", fix)
    elif store.fsync == "no" and not store.embedded:
        text = "append-only file, written to disk when the system likes: a power failure loses up to 30 s"
        yield _of.bad("warning", "persistence", text, "set `appendfsync everysec` in the store's configuration")
    else:
        yield _of.ok("persistence", f"append-only file, fsync {'everysec' if store.embedded else store.fsync}")
    if store.write_status not in (None, "ok"):
        text = f"it cannot write its file (last write: {store.write_status}), so it may refuse all runs"
        fix = "see its log, its disk's space and the rights of its folder"
        yield _of.bad("problem", "persistence", text, fix)


def _eviction(store: StoreFacts) -> Finding:
    fix = "set `maxmemory-policy noeviction` in the store's configuration, and have caches use another server"
    if store.policy is None:
        return _of.bad("warning", "eviction", "whether it evicts keys could not be asked: INFO is not permitted", fix)
    if store.policy != "noeviction":
        return _of.bad("problem", "eviction", f"it drops keys, runs too, when it is full ({store.policy})", fix)
    if store.evicted:
        return _of.bad("problem", "eviction", f"it has dropped {store.evicted} keys since it was started", fix)
    return _of.ok("eviction", "none: it refuses what it has no room for")


def _memory(store: StoreFacts) -> Finding:
    used = store.used_memory or 0
    if not store.maxmemory:
        return _of.ok("memory", f"{size(used)} in use, without a limit of its own")
    share = used / store.maxmemory
    text = f"{share:.0%} of its maxmemory ({size(store.maxmemory)}) in use".replace("%", " %", 1)
    if share < _FULL:
        return _of.ok("memory", text)
    fix = "raise `maxmemory`, or keep finished runs for less long: [queue] keep, keep_failures, keep_count"
    return _of.bad("problem" if share >= _ALL_BUT_FULL else "warning", "memory", text, fix)


def _connections(store: StoreFacts) -> Finding:
    if store.clients is None or not store.maxclients:
        return _of.ok("connections", "not known")
    text = f"{store.clients} of {store.maxclients} connections in use"
    if store.clients < store.maxclients * _FULL:
        return _of.ok("connections", text)
    fix = "raise `maxclients` of the store, and its limit of open files"
    return _of.bad("warning", "connections", text, fix)


def _password(store: StoreFacts) -> Finding:
    if store.password:
        return _of.ok("access", "it wants a password")
    text = f"{store.where} is reached over a network with no password: whoever reaches it can run anything"
    fix = "set a user or `requirepass` there, and the password in [store], best in `.secrets` or by FNRUN_STORE__URL"
    return _of.bad("problem", "access", text, fix)


def _tls(store: StoreFacts) -> Finding:
    if store.tls:
        return _of.ok("TLS", "what goes to it is encrypted")
    fix = "write rediss:// where the server speaks TLS; else see that nobody else is on that network"
    return _of.bad("warning", "access", f"{store.where} is reached over a network without TLS", fix)
