"""Whether every run of a namespace is in exactly the places its state says, read key by key.

Used after each test of the ledger, after each step of its model, and by live tests. Reads only.
"""

from collections.abc import Iterator

import msgspec
from redis import Redis
from redis.client import Pipeline

from runtime.ledger.schedules.definitions import tick_id
from tests.ledger.flow_audit import faults_of_flows
from tests.ledger.keys import OPEN
from tests.ledger.limits_audit import faults_of_limits, lane_of

_PLACES = {"scheduled": {"due"}, "retrying": {"due"}, "running": {"leases"}}
_LISTS = {"succeeded": "done", "cancelled": "done", "failed": "dead"}
_TICKS = {"ticks", "backfill"}
_LANES = {*_TICKS, "held", "backheld"}
_ORDERED = {"ready", "due", "leases", "unknown", "wait", "limited", "apart", "open", "done", "dead", *_LANES}


def _read_members(pipeline: Pipeline, key: str) -> None:
    pipeline.zrange(key, 0, -1)


_READ = {"run": Pipeline.hgetall, "waiting": Pipeline.smembers}


def misplaced(client: Redis, namespace: str) -> list[str]:
    """What does not fit together, as sentences; none if all is well."""
    prefix = f"{namespace}:"
    names = [key.decode().removeprefix(prefix) for key in client.scan_iter(match=f"{prefix}*", count=10_000)]
    names = [name for name in names if name.partition(":")[0] in {"run", "waiting", *_ORDERED}]
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            _READ.get(name.partition(":")[0], _read_members)(pipeline, prefix + name)
        found = pipeline.execute()
    kinds: dict[str, dict[str, set[str]]] = {}
    runs: dict[str, dict[str, str]] = {}
    waiting: set[str] = set()
    for name, value in zip(names, found, strict=True):
        kind, _, rest = name.partition(":")
        if kind == "run" and value:
            runs[rest] = {k.decode(): v.decode(errors="replace") for k, v in value.items()}
        elif kind == "waiting":
            waiting |= {f"{len(rest.encode())}:{rest}:{fn.decode()}" for fn in value}
        else:
            for member in value:
                run_id, of = _tick_of(member) if kind in _TICKS else (member.decode(), rest)
                kinds.setdefault(kind, {}).setdefault(run_id, set()).add(of)
    faults = [fault for run_id, run in runs.items() for fault in _faults_of(run_id, run, kinds)]
    faults += [fault for run_id, run in runs.items() for fault in _faults_of_tick(run_id, run, kinds)]
    faults += _faults_of_lanes(kinds)
    faults += faults_of_flows(client, prefix, runs)
    faults += faults_of_limits(client, prefix, runs)
    for kind, members in kinds.items():
        if kind not in {"done", "dead"}:  # they lose ids that are too old a moment later than the runs go
            faults += [f"{kind} has {run_id}, which is no run" for run_id in members if run_id not in runs]
    there = {rest for rests in kinds.get("wait", {}).values() for rest in rests}
    return [*faults, *([f"waiting and wait differ by {there ^ waiting}"] if there != waiting else [])]


def _tick_of(member: bytes) -> tuple[str, str]:
    """The id of its run, and its schedule."""
    schedule, planned = member.decode().split(" ")
    return tick_id(schedule, int(planned)), schedule


def _faults_of(run_id: str, run: dict[str, str], kinds: dict[str, dict[str, set[str]]]) -> list[str]:
    state, queue, function = run["state"], run["q"], run["fn"]
    places = {
        kind
        for kind in ("ready", "due", "leases", "wait", "unknown", "limited", "apart")
        if run_id in kinds.get(kind, {})
    }
    lists = {kind for kind in ("open", "done", "dead") if run_id in kinds.get(kind, {})}
    faults = []
    if state == "queued" and places not in ({"ready"}, {"wait", "unknown"}, {"limited", "apart"}):
        faults.append(f"{run_id} is queued and in {places or 'no place'}")
    nowhere = function.startswith("flow:") or (state == "scheduled" and _is_held(run_id, kinds))
    if state != "queued" and places != (set() if nowhere else _PLACES.get(state, set())):
        faults.append(f"{run_id} is {state} and in {places or 'no place'}")
    if state in OPEN and lists != {"open"}:
        faults.append(f"{run_id} is {state} and in the lists {lists}")
    if state not in OPEN and not lists <= {_LISTS[state]}:
        faults.append(f"{run_id} is {state} and in the lists {lists}")
    homes = {"wait": f"{len(queue.encode())}:{queue}:{function}", "apart": lane_of(run)} | dict.fromkeys(
        ("open", "done", "dead"), function
    )
    for kind in places | lists:
        found = kinds[kind][run_id]
        if found != {homes.get(kind, queue)}:
            faults.append(f"{run_id} of {function} in {queue} is in {kind} of {found}")
    return faults


def _is_held(run_id: str, kinds: dict[str, dict[str, set[str]]]) -> bool:
    return any(run_id in kinds.get(kind, {}) for kind in ("held", "backheld"))


def _faults_of_tick(run_id: str, run: dict[str, str], kinds: dict[str, dict[str, set[str]]]) -> list[str]:
    """Whether a run is among the open ones of its schedule exactly while it is open."""
    found = {kind: kinds[kind][run_id] for kind in _LANES if run_id in kinds.get(kind, {})}
    counts = run_id.startswith("tick-") and "tick" in run and run["state"] in OPEN
    lane, held = ("backfill", "backheld") if run["trigger"] == "backfill" else ("ticks", "held")
    schedule = msgspec.json.decode(run["tick"])["schedule"] if counts else ""
    expected = {lane: {schedule}} if counts else {}
    if counts and held in found and run["state"] == "scheduled":
        expected[held] = {schedule}
    return [] if found == expected else [f"{run_id} is {run['state']} and among {found}"]


def _faults_of_lanes(kinds: dict[str, dict[str, set[str]]]) -> Iterator[str]:
    """Whether held runs have somebody to wait for."""
    for lane, held in (("ticks", "held"), ("backfill", "backheld")):
        at_work = {
            name for run, names in kinds.get(lane, {}).items() if run not in kinds.get(held, {}) for name in names
        }
        yield from (f"{run} is held by nobody" for run, names in kinds.get(held, {}).items() if not names <= at_work)
