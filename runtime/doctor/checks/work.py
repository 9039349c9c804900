"""Judge what waits, and what cannot run: queues, dead letters, functions that do not load. Pure."""

from collections.abc import Iterator

from runtime.doctor.checks.saying import Area, names
from runtime.doctor.facts import Facts, Finding, Level
from runtime.ledger.views import QueueView

_OLD_SECONDS, _VERY_OLD_SECONDS = 60.0, 3600.0
_MINUTE, _HOUR = 60, 3600

_queues = Area("queues")
_functions = Area("functions")


def check_queues(facts: Facts) -> Iterator[Finding]:
    """Each queue that is not well, and the dead letters."""
    if facts.work is None or facts.roles is None:
        return
    served = {name for one in facts.roles.workers for name in one.queues}
    any_worker = bool(facts.roles.workers)
    bad = [
        found
        for queue in facts.work.queues
        for found in [_queue(queue, served_by_any="*" in served or queue.name in served or not any_worker)]
        if found is not None
    ]
    yield from bad
    if not bad:
        waiting = sum(queue.ready for queue in facts.work.queues)
        yield _queues.ok("backlog", f"{waiting} runs are ready, none for long")
    dead = facts.work.dead
    if dead:
        counts = names(f"{name} ({count})" for name, count in sorted(dead.items(), key=lambda pair: -pair[1]))
        text = f"{sum(dead.values())} runs have failed for good: {counts}"
        fix = "see why: fnrun runs list --state failed; then fnrun runs redrive, or purge"
        yield _queues.bad("warning", "dead letters", text, fix)
    else:
        yield _queues.ok("dead letters", "none")


def _queue(queue: QueueView, *, served_by_any: bool) -> Finding | None:
    """The worst there is to say."""
    if queue.ready and not served_by_any:
        text = f"{queue.ready} runs are ready, and no worker takes from this queue"
        return _queues.bad("problem", queue.name, text, "add it to [queue] queues of a worker: --queues, or *")
    if queue.unknown:
        text = f"{queue.unknown} runs are of functions that no worker knows; after 10 min they fail"
        return _queues.bad("problem", queue.name, text, "deploy the code that has them to a worker")
    if queue.paused:
        text = f"it is paused, and {queue.ready} runs are ready"
        return _queues.bad("warning", queue.name, text, f"if that is over: fnrun queues resume {queue.name}")
    if queue.age_seconds >= _OLD_SECONDS:
        text = f"{queue.ready} runs are ready, the oldest for {_time(queue.age_seconds)}"
        level: Level = "problem" if queue.age_seconds >= _VERY_OLD_SECONDS else "warning"
        fix = "start more workers, or raise [queue] concurrency; see what runs: fnrun runs list --state running"
        return _queues.bad(level, queue.name, text, fix)
    return None


def _time(seconds: float) -> str:
    return f"{seconds / _HOUR:.0f} h" if seconds >= _HOUR else f"{seconds / _MINUTE:.0f} min"


def check_functions(facts: Facts) -> Iterator[Finding]:
    """What does not load, and what alerts would have run in vain."""
    code = facts.code
    for fault in code.alerts:
        yield _functions.bad("problem", "alerts", fault, "name a function that there is: else nobody is told")
    for failure in code.failures:
        place, _, message = failure.partition(": ")
        yield _functions.bad("problem", place, message or failure, "correct it: fnrun check shows the traceback")
    if not code.served:
        text = "it does not load, and nothing is served without its middleware and resources"
        yield _functions.bad("problem", "_lifespan.py", text, "correct it: fnrun check shows the traceback")
    if not code.failures and code.served:
        yield _functions.ok("loaded", f"{len(code.functions)} functions, all load")
