"""Whether flows and their steps agree, and whether each open flow has what takes it on.

Part of tests.ledger.audit. Reads only.
"""

from collections import Counter
from collections.abc import Mapping

from redis import Redis

from tests.ledger.keys import OPEN

_STATES = ("open", "succeeded", "failed", "cancelled")


def faults_of_flows(client: Redis, prefix: str, runs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What does not fit together, as sentences. runs: all there are."""
    left = {member.decode().split(":", 4)[4] for member in client.zrange(f"{prefix}flows", 0, -1)}
    faults = []
    for run_id, run in runs.items():
        if run["fn"].startswith("flow:"):
            found = {k.decode(): v.decode() for k, v in client.hgetall(f"{prefix}flow:{run_id}").items()}
            steps = {int(r["flow"].split(":")[0]): r for r in runs.values() if r.get("flow", "").endswith(f":{run_id}")}
            faults += [f"{run_id}: {fault}" for fault in _faults_of(run["state"], found, steps, left=run_id in left)]
    return faults


def _faults_of(state: str, flow: dict[str, str], steps: dict[int, Mapping[str, str]], *, left: bool) -> list[str]:
    numbers = {n for n in range(int(flow["size"])) if '"kind":"step"' in flow[f"node:{n}"]}
    states = {n: flow[f"state:{n}"].rpartition(":")[2] for n in numbers if f"state:{n}" in flow}
    counted = Counter(states.values())
    told = {word: int(flow[word]) for word in _STATES}
    faults = []
    if told != {word: counted[word] for word in _STATES}:
        faults.append(f"says {told} of its steps, which are {dict(counted)}")
    is_open = {n: run["state"] in OPEN for n, run in steps.items()}
    if (opened := {n for n, one in is_open.items() if one}) != {n for n in states if states[n] == "open"}:
        faults.append(f"has the open steps {opened}, and says they are {states}")
    wrong = {
        n: run["state"] for n, run in steps.items() if not is_open[n] and states.get(n) not in {run["state"], None}
    }
    if wrong:
        faults.append(f"has steps that are {wrong}, and says they are {states}")
    if state in OPEN and not opened and not left:
        faults.append(f"is {state}, and nothing takes it on")
    if state not in OPEN and opened:
        faults.append(f"is {state}, and has open steps {opened}")
    return faults
