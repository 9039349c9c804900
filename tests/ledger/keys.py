"""The keys of a namespace: which may last, and which must have a time to live.

Used after each test of the ledger, and by live tests. Reads only.
"""

from redis import Redis

LASTING = {"seq", "queues", "functions", "on_failure", "paused", "workers", "flows"}
"""Keys of which a namespace has one each. All are bounded by names of functions, queues and workers, and open flows."""

LASTING_KINDS = {"bell", "ready", "due", "leases", "wait", "waiting", "unknown", "open"}
"""Keys of which each queue or function has one, as long as there is something in it."""

OF_RUNS = {"run", "in", "out", "log", "progress", "flow"}
"""Keys of which each run has one: lasting while it is open."""

PASSING = {"done", "dead", "dedupe", "children", "worker", "info", "check"}
"""Keys that always have a time to live."""

OPEN = {"scheduled", "queued", "running", "retrying"}


def stray_keys(client: Redis, namespace: str, *, lasting: tuple[str, ...] = ()) -> list[str]:
    """What should not be there, as sentences: keys without a time to live that nothing accounts for.

    lasting: beginnings, behind the namespace, of further keys that may last.
    """
    prefix = f"{namespace}:"
    names = sorted(client.scan_iter(match=f"{prefix}*", count=10_000))
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            kind, _, rest = name.decode().removeprefix(prefix).partition(":")
            pipeline.ttl(name)
            pipeline.hget(f"{prefix}run:{rest}" if kind in OF_RUNS else f"{prefix}run:", "state")
        found = pipeline.execute()
    faults = []
    for name, ttl, state in zip(names, found[::2], found[1::2], strict=True):
        short = name.decode().removeprefix(prefix)
        fault = "" if short.startswith(lasting or ("\0",)) else _fault(short, state, passes=ttl >= 0)
        if fault:
            faults.append(f"{name.decode()}: {fault}")
    return faults


def _fault(short: str, state: bytes | None, *, passes: bool) -> str:
    kind, colon, _ = short.partition(":")
    if not colon:
        return "" if short in LASTING else "no key of ours"
    if kind in OF_RUNS:
        return _fault_of_run(kind, (state or b"").decode(), passes=passes)
    if kind in PASSING:
        return "" if passes else "has no time to live"
    return "" if kind in LASTING_KINDS else "no key of ours"


def _fault_of_run(kind: str, state: str, *, passes: bool) -> str:
    if not state and not passes:
        return "its run is gone, and it stays"
    if state in OPEN:
        return "goes before its open run" if passes and kind != "progress" else ""
    return "" if passes else f"has no time to live, and its run is {state}"
