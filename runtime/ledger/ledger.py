"""The ledger: accept, claim, beat, finish, and the rest, each one short script that the store runs as a whole.

Builds Calls and does no I/O itself; triggers, workers, admin and the CLI run them. See scripts/common.lua for the keys.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha1
from typing import Any, TypeVar

import msgspec

from runtime.base.errors import InputError
from runtime.invoke.limits.rules import Limits
from runtime.ledger import views
from runtime.ledger.calls import Argument, Call, script
from runtime.ledger.flows.nodes import FlowSubmission, stored
from runtime.ledger.records import Accepted, Adopted, Adoption, Beat, Claimed, Ending, Foreign, Held, Lost, Submission
from runtime.ledger.views import Contact, Page, QueueView, RunView, WorkerView

T = TypeVar("T")

_SCORE = re.compile(r"\d{1,20}(\.\d{1,20})?(e[+-]?\d{1,3})?", re.ASCII)
_REAPED = 100
_MOST_RUNS = 1000
_PEEKED = 100
_PEEKED_BYTES = 4_000_000
_FOREIGN_FIELDS = 4


class Keeping(msgspec.Struct, frozen=True, kw_only=True):
    """How long finished runs are kept: good ones for so long and so many a function, failed ones for longer."""

    seconds: float = 7 * 86_400.0
    failures_seconds: float = 30 * 86_400.0
    count: int = 10_000


class Ledger:
    """The runs of a namespace.

    lease_seconds: a worker without a beat for so long loses its runs. stays_seconds: how long it counts as alive.
    clock: seconds since the epoch in place of the store's own clock, for tests.
    """

    def __init__(
        self,
        namespace: str,
        *,
        lease_seconds: float = 10.0,
        keeping: Keeping | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        keeping = keeping or Keeping()
        self.prefix = f"{namespace}:"
        self.lease_seconds = lease_seconds
        self.stays_seconds = max(30.0, lease_seconds * 3)
        self._clock = clock
        self._keeping = (_ms(keeping.seconds), _ms(keeping.failures_seconds), keeping.count)

    def now(self) -> float:
        """Seconds since the epoch, by its clock or else this machine's: for what is shown, not what is decided."""
        return time.time() if self._clock is None else self._clock()

    def bell(self, queue: str) -> str:
        """The list that something is pushed to when a queue has work. A hint: look each second, too."""
        return f"{self.prefix}bell:{queue}"

    def done(self, run_id: str) -> str:
        """The channel on which the end of a run is told."""
        return f"{self.prefix}done:{run_id}"

    def accept(self, runs: Iterable[Submission]) -> Call[list[Accepted]]:
        """Record runs, all of them at once. What became of each."""
        return self._call("accept", map(packed, runs), _read_accepted)

    def peek(self, keys: Sequence[str], longest: int) -> Call[list[Foreign]]:
        """The oldest messages on lists of Celery's own clients, about 100; nothing is taken. longest: bytes of one."""
        return self._call("peek", (_PEEKED, longest, _PEEKED_BYTES, *keys), _read_foreign)

    def adopt(self, messages: Iterable[Adoption]) -> Call[list[Adopted]]:
        """Make runs of foreign messages, those of one list in the order of `peek`. What became of each."""
        arguments: list[Argument] = []
        for one in messages:
            arguments += (
                one.key,
                one.digest,
                "" if one.expires is None else _ms(one.expires),
                msgspec.json.encode(one.refused) if one.refused else b"",
                packed(one.run),
            )
        return self._call("adopt", arguments, _read_words)  # type: ignore[arg-type]  # the script has no other words

    def accept_flow(self, flow: FlowSubmission) -> Call[Accepted]:
        """Record a flow and let it begin. What became of it."""
        queues = flow.steps()
        arguments: list[Argument] = [
            flow.id, flow.function, flow.priority, _due_of(flow), flow.dedupe, max(1, _ms(flow.dedupe_seconds)),
            flow.parent, flow.trace, flow.max_length, flow.payload_max, queues.total(), flow.callback, len(queues),
        ]  # fmt: skip
        arguments += [part for pair in queues.items() for part in pair]
        arguments += stored(flow.nodes)
        return self._call("accept_flow", arguments, lambda found: _read_accepted(found)[0])

    def register(
        self,
        worker: str,
        functions: Mapping[str, Limits | None],
        on_failure: Mapping[str, tuple[str, str]],
        info: bytes = b"{}",
    ) -> Call[None]:
        """Say which functions a worker knows, with their limits; again when they change.

        Beats keep it, for stays_seconds each.
        on_failure: of a function, the (function, queue) to be run when one of its runs has failed for good.
        """
        pairs = [part for name, target in on_failure.items() for part in (name, msgspec.json.encode(target))]
        arguments: list[Argument] = [worker, _ms(self.stays_seconds), info, len(functions)]
        for name, limits in functions.items():
            arguments += (name, msgspec.json.encode(limits) if limits else b"")
        arguments += pairs
        return self._call("register", arguments, _read_nothing)

    def leave(self, worker: str) -> Call[None]:
        """A worker ends in good order."""
        return self._call("leave", (worker,), _read_nothing)

    def claim(self, worker: str, queues: Sequence[str], slots: int) -> Call[list[Claimed] | None]:
        """At most so many runs for a worker; None if it has to register first (again, perhaps)."""
        return self._call("claim", (worker, slots, _ms(self.lease_seconds), *queues), _read_claimed)

    def beat(self, worker: str, held: Iterable[Held]) -> Call[Beat]:
        """Renew a worker's leases."""
        arguments: list[Argument] = [worker, _ms(self.lease_seconds), _ms(self.stays_seconds)]
        for one in held:
            arguments += (one.id, one.token, one.queue, one.progress)
        return self._call("beat", arguments, _read_beat)

    def finish(self, endings: Iterable[Ending]) -> Call[list[bool]]:
        """Write how attempts ended. False: refused, the run is no longer the caller's."""
        told = [
            (
                ending.id, str(ending.token), ending.state, ending.reason or ending.fell_back, _text(ending.result),
                _text(msgspec.json.encode(ending.failure)) if ending.failure else "",
                _text(_log_entry(ending)) if ending.state != "succeeded" or ending.fell_back else "",
                _ms(ending.retry_seconds), _text(ending.progress), ending.verdict,
                _ms(self.lease_seconds) if ending.stays else 0,
            )
            for ending in endings
        ]  # fmt: skip
        return self._call("finish", (_pack(told),), lambda found: [bool(one) for one in found])

    def release(self, held: Iterable[Held]) -> Call[int]:
        """Hand runs back as if they had not been claimed. How many."""
        return self._call("release", [part for one in held for part in (one.id, one.token, one.queue)], int)

    def disown(self, worker: str, queues: Sequence[str], held: Iterable[Held]) -> Call[int]:
        """Hand back what a worker was given and does not hold: the answer to a claim of these queues was lost."""
        arguments: list[Argument] = [worker, len(queues), *queues]
        for one in held:
            arguments += (one.id, one.token)
        return self._call("disown", arguments, int)

    def reap(self, on_lost: Callable[[list[Lost]], object] = len, contact: Contact | None = None) -> Call[int]:
        """Move what its time has come for: due runs, lost leases. How many; call again at once while there are any.

        on_lost: told of attempts whose worker was lost. contact: the caller's, who reaps again and again. A call that
        was under way while the store stood still takes no leases: beats that were, too, may be read after it.
        """
        contact = contact or Contact()
        arguments = (_REAPED, contact.at, _ms(self.lease_seconds / 2))
        return self._call("reap", arguments, views.read_reaped(on_lost, contact))

    def next_reap(self) -> Call[float | None]:
        """When reap will have something to move, as things are now; None for never."""
        return self._call("next", (), lambda found: None if found is None else found / 1000)

    def cancel(self, run_ids: Iterable[str]) -> Call[list[str]]:
        """For each: cancelled, cancelling, finished, unknown."""
        return self._call("cancel", tuple(run_ids), _read_words)

    def redrive(self, run_ids: Iterable[str]) -> Call[list[str]]:
        """Run failed and cancelled runs again. For each: queued, unknown; left alone: succeeded, open, refused.

        Refused is what a client of Celery's own sent and cannot be run.
        """
        return self._call("redrive", tuple(run_ids), _read_words)

    def purge(self, run_ids: Iterable[str]) -> Call[list[str]]:
        """Forget finished runs. For each: purged, open, unknown."""
        return self._call("purge", tuple(run_ids), _read_words)

    def pause(self, queue: str, *, paused: bool) -> Call[bool]:
        """Let nobody claim from a queue; or again. Whether that is a change."""
        return self._call("pause", (queue, int(paused)), bool)

    def show(self, run_ids: Iterable[str]) -> Call[list[RunView | None]]:
        """All that is known of runs; None for one that is not."""
        return self._call("show", tuple(run_ids), views.read_show)

    def runs(
        self,
        functions: Sequence[str] = (),
        *,
        states: Sequence[str] = (),
        trigger: str = "",
        since: float = 0.0,
        cursor: str = "",
        limit: int = 50,
    ) -> Call[Page]:
        """A page of runs, newest first, of all functions if none is named. cursor: of the page before; InputError.

        Newest by when they were accepted while they are open, by when they ended afterwards.
        """
        after, last = _begin_after(cursor)
        limit = min(limit, _MOST_RUNS)
        arguments: tuple[Argument, ...] = (
            limit,
            after,
            last,
            ",".join(states),
            trigger,
            _ms(since),
            *dict.fromkeys(functions),
        )
        return self._call("list", arguments, views.read_page)

    def workers(self) -> Call[list[WorkerView]]:
        """The workers that live, as far as their beats tell."""
        return self._call("workers", (), views.read_workers)

    def queues(self) -> Call[list[QueueView]]:
        """Every queue that has ever had a run, by name."""
        return self._call("queues", (), views.read_queues)

    def children(self, places: Iterable[tuple[str, str]]) -> Call[list[tuple[str, list[str]]]]:
        """Runs that runs have submitted, some hundreds of each.

        places: ids, each with "0", or with the place that the answer before gave. For each: the next place, "0" at the
        end, and ids; one may come twice.
        """
        return self._call("children", [part for place in places for part in place], _read_children)

    def call(self, name: str, arguments: Iterable[Argument], read: Callable[[Any], T]) -> Call[T]:
        """A call of one of scripts/, for what stands beside this class: once, schedules."""
        return self._call(name, arguments, read)

    def _call(self, name: str, arguments: Iterable[Argument], read: Callable[[Any], T]) -> Call[T]:
        now = "" if self._clock is None else _ms(self._clock())
        return Call(script(name), (self.prefix, now, *self._keeping, *arguments), read)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


_pack = msgspec.msgpack.Encoder().encode
_LONG_TEXT = b"\xdb"


def _text(content: bytes) -> msgspec.Raw | str:
    """Bytes as a text of MessagePack, which scripts read, whatever they are: what they know of it has no bytes."""
    return msgspec.Raw(_LONG_TEXT + len(content).to_bytes(4, "big") + content) if content else ""


def packed(run: Submission) -> bytes:
    """A submission as scripts take it: texts, in one argument, for a client's work is by the argument."""
    return _pack((
        run.id, run.function, run.queue, _text(run.payload), run.trigger, str(run.priority),
        str(_due_of(run)),
        "" if run.max_age_seconds is None else str(_ms(run.max_age_seconds)),
        run.dedupe, str(max(1, _ms(run.dedupe_seconds))), run.parent, run.trace, str(run.max_length), run.key or "",
        run.callback,
    ))  # fmt: skip


def _due_of(run: Submission | FlowSubmission) -> str | int:
    """When a run is due, in ms; with a + from when it is accepted on; "" for then."""
    if run.delay_seconds:
        return f"+{_ms(run.delay_seconds)}"
    return "" if run.due is None else _ms(run.due)


def _begin_after(cursor: str) -> tuple[str, str]:
    """Score and id of the last run of the page before."""
    score, _, last = cursor.partition(":")
    if cursor and not (last and _SCORE.fullmatch(score)):
        raise InputError(422, f"{cursor!r} is no cursor: leave it out, or give one that came with a page")
    return score or "+inf", last


def _log_entry(ending: Ending) -> bytes:
    failure = ending.failure
    state = "crashed" if ending.state == "lost" else ending.state
    found = {
        "attempt": ending.attempt, "token": ending.token, "state": state, "began": ending.began,
        "finished": ending.ended, "worker": ending.worker, "reason": ending.reason or "",
        "message": f"{failure.type}: {failure.message}" if failure else "",
    }  # fmt: skip
    return msgspec.json.encode(found | {"fell_back": ending.fell_back} if ending.fell_back else found)


def _read_nothing(_: Any) -> None:
    return None


def _read_words(found: Sequence[bytes]) -> list[str]:
    return [word.decode() for word in found]


def _read_children(found: Sequence[Any]) -> list[tuple[str, list[str]]]:
    return [(found[i].decode(), _read_words(found[i + 1])) for i in range(0, len(found), 2)]


def _read_accepted(found: Sequence[bytes]) -> list[Accepted]:
    words = _read_words(found)
    return [Accepted(words[i + 1], words[i]) for i in range(0, len(words), 2)]  # type: ignore[arg-type]  # script's words


def _read_foreign(found: Sequence[Any]) -> list[Foreign]:
    return [_foreign(*found[i : i + _FOREIGN_FIELDS]) for i in range(0, len(found), _FOREIGN_FIELDS)]


def _foreign(key: bytes, content: bytes, size: int, digest: bytes) -> Foreign:
    read = digest.decode() or sha1(content, usedforsecurity=False).hexdigest()  # only to know it again
    return Foreign(key.decode(), content, size, read)


def _read_beat(found: Sequence[Sequence[bytes]]) -> Beat:
    lost, cancelled = found
    return Beat(tuple(_read_words(lost)), tuple(_read_words(cancelled)))


_claimed = msgspec.msgpack.Decoder(list[Claimed]).decode


def _read_claimed(found: bytes | None) -> list[Claimed] | None:
    return None if found is None else _claimed(found)
