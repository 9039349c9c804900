"""Whether what is known of limits fits the runs of a namespace, read key by key. Part of the audit; reads only."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from redis import Redis

_SETS = {"places", "shut", "lanes"}
_SORTED = {"keyed", "keys", "turn", "blocked", "apart", "limited", "calls", "asked", "callers"}


def _counted(text: str) -> str:
    return f"{len(text.encode())}:{text}"


def lane_of(run: dict[str, str]) -> str:
    return f"{_counted(run['q'])}:{run['prio']}:{_counted(run['fn'])}"


def faults_of_limits(client: Redis, prefix: str, runs: dict[str, dict[str, str]]) -> list[str]:
    """What does not fit together, as sentences; none if all is well."""
    kinds: dict[str, dict[str, Any]] = defaultdict(dict)
    for key in client.scan_iter(match=f"{prefix}*", count=10_000):
        kind, _, rest = key.decode().removeprefix(prefix).partition(":")
        if kind in _SETS:
            kinds[kind][rest] = {one.decode() for one in client.smembers(key)}
        elif kind in _SORTED:
            kinds[kind][rest] = {one.decode(): score for one, score in client.zrange(key, 0, -1, withscores=True)}
    until = {one.decode() for one in client.zrange(f"{prefix}until", 0, -1)}
    faults = [*_faults_of_waiting(kinds, runs), *_faults_of_places(kinds, runs), *_faults_of_blocked(kinds, until)]
    for name in kinds["shut"]:
        trial = client.hmget(f"{prefix}breaker:{name}", "trial", "lapses")
        if f"b{name}" not in until and not (trial[0] and not trial[1]):
            faults.append(f"the lanes of {name} are shut for ever")
    return faults


def _faults_of_waiting(kinds: dict[str, dict[str, Any]], runs: dict[str, dict[str, str]]) -> Iterator[str]:
    """A queued run with a key waits as one of that key, and nothing else does."""
    expected: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for run_id, run in runs.items():
        if run["state"] == "queued" and "key" in run:
            expected[f"{lane_of(run)}:{run['key']}"].add(run_id)
            counts[lane_of(run)][run["key"]] += 1
    found = {name: set(ids) for name, ids in kinds["keyed"].items()}
    if found != expected:
        yield f"with keys wait {found}, not {dict(expected)}"
    if kinds["keys"] != counts:
        yield f"counted are {kinds['keys']}, not {dict(counts)}"
    blocked = {one for members in kinds["blocked"].values() for one in members}
    apart = {one for ids in kinds["apart"].values() for one in ids}
    if apart != {one for ids in kinds["limited"].values() for one in ids}:
        yield "apart and limited differ"
    shut = {lane for lanes in kinds["shut"].values() for lane in lanes}
    for lane, keys in counts.items():
        turn = kinds["turn"].get(lane, {})
        yield from (
            f"{key} of {lane} has no turn" for key in keys if key not in turn and f"{lane}:{key}" not in blocked
        )
        in_line = [one for name, ids in expected.items() if name.startswith(f"{lane}:") for one in ids - apart]
        if turn and not in_line and lane not in shut:
            yield f"{lane} has turns, and no run in line"
    yield from (
        f"the lane {lane} is not known" for lane in counts if not any(lane in one for one in kinds["lanes"].values())
    )
    yield from (
        f"{key} of {lane} has a turn, and no run"
        for lane, keys in kinds["turn"].items()
        for key in keys
        if key not in counts[lane]
    )


def _faults_of_places(kinds: dict[str, dict[str, Any]], runs: dict[str, dict[str, str]]) -> Iterator[str]:
    """A run holds a place exactly while it is at work."""
    expected: dict[str, set[str]] = defaultdict(set)
    for run_id, run in runs.items():
        if "slot" in run:
            expected[f"{_counted(run['fn'])}:{run['slot']}"].add(run_id)
        if ("slot" in run or "breaker" in run) and run["state"] != "running":
            yield f"{run_id} is {run['state']} and has a place"
    if kinds["places"] != expected:
        yield f"places are held by {kinds['places']}, not {dict(expected)}"
    for name, callers in kinds["callers"].items():
        if set(callers) != set(kinds["asked"].get(name, ())):
            yield f"callers and asked differ in {name}"


def _faults_of_blocked(kinds: dict[str, dict[str, Any]], until: set[str]) -> Iterator[str]:
    """What is blocked waits for a run's end, or for a time."""
    for name in kinds["blocked"]:
        if not {f"p{name}", f"r{name}"} & until and name not in kinds["places"]:
            yield f"{name} is blocked for ever"
