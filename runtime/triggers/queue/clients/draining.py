"""Make runs of what Celery's own clients send: drain their lists, losing nothing.

A step is called by a thread of its own (upkeep); revoke by the hub. A message is never popped before it is a run: it is
looked at, read here, and then taken off its list in the same script that accepts it, if it still is the oldest there.
So any number of workers may drain a list, and each of them may die at any time.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import redis

from runtime.base.errors import StoreDown
from runtime.base.logs import get_logger
from runtime.ledger.calls import do
from runtime.ledger.ledger import Ledger
from runtime.ledger.records import Adopted, Adoption, Foreign
from runtime.triggers.queue.clients.messages import Reader, run_id_of
from runtime.triggers.queue.parts import Options
from runtime.triggers.queue.plans import RunPlan, declared_queues, queues_of

log = get_logger(__name__)

_IDLE_SECONDS = 0.1
_TAKEN = {"accepted", "known", "refused"}
_FULL_SECONDS = 1.0
_SAY_AGAIN_SECONDS = 60.0
_MOST_REVOKED = 10_000
_MOST_NAMED = 10
_SEPARATOR = "\x06\x16"
_PRIORITIES = range(1, 10)
"""kombu has a list for 0, and by default for 3, 6 and 9; a client may say otherwise (priority_steps)."""


def keys_of(prefix: str, queue: str) -> list[str]:
    """The lists that a client pushes the messages of a queue to."""
    name = f"{prefix}{queue}"
    return [name, *(f"{name}{_SEPARATOR}{priority}" for priority in _PRIORITIES)]


class Draining:
    """plans: of the functions that are known now."""

    def __init__(
        self, client: redis.Redis, ledger: Ledger, options: Options, plans: Callable[[], Mapping[str, RunPlan]]
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._options = options
        self._plans = plans
        self._reader = Reader(
            lambda name: plans().get(name), payload_max=options.payload_max, max_length=options.max_length
        )
        self._known: Mapping[str, RunPlan] | None = None
        self._queues: dict[str, str] = {}
        self._turn = 0
        self._elsewhere = True
        self._full: dict[str, float] = {}
        """Until when a queue that was full is left alone."""
        self._revoked: dict[str, None] = {}

    def step(self) -> float:
        """Take what is there, about 100 messages. Seconds until the next step. StoreDown."""
        keys = self._keys()
        found = self._look(keys) if keys else []
        if not found:
            return _IDLE_SECONDS
        read = [self._read(message) for message in found]
        words = do(self._client, self._ledger.adopt(read))
        self._note(read, words)
        return 0.0 if _TAKEN.intersection(words) else _IDLE_SECONDS

    def revoke(self, task_ids: list[str]) -> dict[str, str]:
        """Cancel the runs of tasks, and those that will come. What became of each, in the words of Ledger.cancel.

        StoreDown.
        """
        run_ids = [run_id_of(task_id, "") for task_id in task_ids]
        words: list[str] = do(self._client, self._ledger.cancel(run_ids))
        self._revoked |= {run_id: None for run_id, word in zip(run_ids, words, strict=True) if word == "unknown"}
        while len(self._revoked) > _MOST_REVOKED:
            del self._revoked[next(iter(self._revoked))]
        return dict(zip(task_ids, words, strict=True))

    def _look(self, keys: list[str]) -> list[Foreign]:
        """What is there. A user of the store that may not read lists outside of the namespace does without them."""
        try:
            return do(self._client, self._ledger.peek(keys, self._reader.longest))
        except StoreDown as error:
            if not self._elsewhere or "ermission" not in str(error):
                raise
            within = [key for key in keys if key.startswith(self._ledger.prefix)]
            found = do(self._client, self._ledger.peek(within, self._reader.longest))  # else it is no matter of lists
            self._elsewhere, self._known = False, None
            log.warning(
                "this user of the store may not read what Celery's clients send outside of the namespace; permit the "
                "keys of the queues, or set [queue] celery_prefix to that of the namespace",
                celery_prefix=f"{self._ledger.prefix}celery:",
            )
            return found

    def _keys(self) -> list[str]:
        """The lists to look at: another one first each time, as an answer has room for so much."""
        plans = self._plans()
        if plans is not self._known:
            self._known, self._queues = plans, self._lists_of(plans)
        now = time.monotonic()
        keys = [key for key, queue in self._queues.items() if self._full.get(queue, 0.0) <= now]
        self._turn += 1
        start = self._turn % len(keys) if keys else 0
        return keys[start:] + keys[:start]

    def _lists_of(self, plans: Mapping[str, RunPlan]) -> dict[str, str]:
        """Of each list, its queue. Outside of the namespace only those that functions say: others may use the store."""
        if self._options.celery_prefix is None:
            return {}
        functions = [plan.function for plan in plans.values()]
        lists: dict[str, str] = {}
        for prefix, queues in (
            (f"{self._ledger.prefix}celery:", queues_of(functions)),
            (self._options.celery_prefix, declared_queues(functions) if self._elsewhere else set()),
        ):
            for queue in sorted(queues):
                if "*" in self._options.queues or queue in self._options.queues:
                    lists |= dict.fromkeys(keys_of(prefix, queue), queue)
        return lists

    def _read(self, message: Foreign) -> Adoption:
        return self._reader.read(message, self._queues[message.key])

    def _note(self, read: Sequence[Adoption], words: Sequence[Adopted]) -> None:
        became: dict[Adopted, list[Adoption]] = {}
        for one, word in zip(read, words, strict=True):
            became.setdefault(word, []).append(one)
        for one in became.get("full", ()):
            self._note_full(one.run.queue)
        if refused := [one for one in became.get("refused", ()) if one.refused]:
            names = [one.run.id for one in refused[:_MOST_NAMED]]
            why = refused[0].refused
            log.warning("messages are dead letters", count=len(refused), run_ids=names, reason=why and why.message)
        if revoked := [one.run.id for one in became.get("accepted", ()) if one.run.id in self._revoked]:
            do(self._client, self._ledger.cancel(revoked))

    def _note_full(self, queue: str) -> None:
        now = time.monotonic()
        if queue not in self._full or now > self._full[queue] + _SAY_AGAIN_SECONDS:
            log.warning("a queue is full: what Celery's clients send to it waits where it is", queue=queue)
        self._full[queue] = now + _FULL_SECONDS
