"""The keys of a namespace: which may last, and which must have a time to live.

Used after each test of the ledger, and by live tests. Reads only.
"""

from redis import Redis

LASTING = {
    "seq", "queues", "functions", "on_failure", "paused", "workers", "flows", "schedules", "schedule_changes",
    "schedule_ids", "schedule_states", "ticks", "backfill", "schedulers", "added", "overrides", "until", "limits",
    "callbacks", "callbacks_used", "callbacks_dead",
    "access", "access_used", "access_version", "access_taken", "audit",
    "alerts", "alert_states", "alert_outbox", "alert_told", "alert_recent", "alert_workers", "alert_lost",
}  # fmt: skip
"""Keys of which a namespace has one each, bounded by names of functions, queues, workers, schedules, and open runs; by
access keys; and the audit log, of which so much is kept."""

LASTING_KINDS = {
    "bell", "ready", "due", "leases", "wait", "waiting", "unknown", "open", "held", "backheld",
    "keyed", "keys", "turn", "blocked", "apart", "limited", "shut", "lanes", "places",
}  # fmt: skip
"""Keys of which each queue, function or schedule has one, as long as there is something in it; or
each key of limits, as long as one of its runs waits or is at work."""

OF_DEFINITIONS = {"set"}
"""Keys that last exactly while they are in force."""

OF_RUNS = {"run", "in", "out", "log", "progress", "flow"}
"""Keys of which each run has one: lasting while it is open."""

PASSING = {
    "done", "dead", "dedupe", "once", "children", "worker", "knows", "info", "check", "scheduler", "schedule", "skips",
    "calls", "callers", "asked", "rate", "breaker", "minutes", "counted", "callback", "lines", "alert",
}  # fmt: skip
"""Keys that always have a time to live."""

OPEN = {"scheduled", "queued", "running", "retrying"}


def stray_keys(client: Redis, namespace: str, *, lasting: tuple[str, ...] = ()) -> list[str]:
    """What should not be there, as sentences: keys without a time to live that nothing accounts for.

    lasting: beginnings, behind the namespace, of further keys that may last.
    """
    prefix = f"{namespace}:"
    names = sorted(client.scan_iter(match=f"{prefix}*", count=10_000))
    current = (client.hget(f"{prefix}schedules", "current") or b"").decode()
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            kind, _, rest = name.decode().removeprefix(prefix).partition(":")
            pipeline.ttl(name)
            pipeline.hget(f"{prefix}run:{rest}" if kind in OF_RUNS else f"{prefix}run:", "state")
        found = pipeline.execute()
    faults = []
    for name, ttl, state in zip(names, found[::2], found[1::2], strict=True):
        short = name.decode().removeprefix(prefix)
        known = state if short != f"set:{current}" else b"current"
        fault = "" if short.startswith(lasting or ("\0",)) else _fault(short, known, passes=ttl >= 0)
        if fault:
            faults.append(f"{name.decode()}: {fault}")
    return faults


def _fault(short: str, state: bytes | None, *, passes: bool) -> str:
    kind, colon, _ = short.partition(":")
    if not colon:
        return "" if short in LASTING else "no key of ours"
    if kind in OF_RUNS:
        return _fault_of_run(kind, (state or b"").decode(), passes=passes)
    if kind in OF_DEFINITIONS and passes == (state is not None):
        return "goes, and is in force" if passes else "stays, and is not in force"
    if kind in PASSING:
        return "" if passes else "has no time to live"
    return "" if kind in LASTING_KINDS | OF_DEFINITIONS else "no key of ours"


def _fault_of_run(kind: str, state: str, *, passes: bool) -> str:
    if not state and not passes:
        return "its run is gone, and it stays"
    if state in OPEN:
        return "goes before its open run" if passes and kind != "progress" else ""
    return "" if passes else f"has no time to live, and its run is {state}"
