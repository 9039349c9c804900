"""What is known of alerts in the store, as calls: who looks at the rules, their states, what is to be sent.

Run by the watch and by the admin API. Does no I/O itself. See ledger/scripts/alerts/holding.lua for the keys.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from runtime.alerts.judging import RuleState
from runtime.alerts.rules import Facts
from runtime.ledger.calls import Argument, Call
from runtime.ledger.ledger import Ledger

Outcome = Literal["sent", "again", "given up"]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be told, through these channels. event: fired, reminded, resolved, test. body: JSON."""

    id: str
    rule: str
    event: str
    body: bytes
    channels: tuple[str, ...]


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """A message on its way through one channel. made: when it was. tries: that failed. error: of the last one."""

    name: str
    event: str
    body: bytes
    made: float
    due: float = 0.0
    tries: int = 0
    error: str = ""

    @property
    def channel(self) -> str:
        """webhook, command or run."""
        return self.name.split(":")[0]

    @property
    def rule(self) -> str:
        """By name."""
        return self.name.split(":")[1]

    @property
    def message_id(self) -> str:
        """The same at each try, and through each channel."""
        return self.name.split(":")[2]

    @property
    def lane(self) -> str:
        """What is in one arrives in its order."""
        return self.name.rpartition(":")[0]


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """A parcel that is on its way no more. at: seconds since the epoch."""

    id: str
    rule: str
    event: str
    channel: str
    outcome: Outcome
    at: float
    tries: int
    error: str = ""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a look brought. told: messages of the last hour. facts: but for queues and minutes.

    counted: functions of which something was counted since the minute that was asked for.
    """

    states: dict[str, RuleState]
    told: int
    facts: Facts
    counted: frozenset[str] = frozenset()


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What people may see. holder: the process that looks, "" for none."""

    now: float
    holder: str
    states: dict[str, RuleState]
    recent: list[Delivered]
    waiting: list[Parcel]


class Book:
    """Calls on one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def hold(self, holder: str, seconds: float) -> Call[int]:
        """Be the one who looks, for so long; 0.0 to let go. The token, 0 for who is not."""
        return self._ledger.call("alerts/hold", (holder, _ms(seconds)), int)

    def look(self, windows: Sequence[float], minute: int | None = None) -> Call[Look]:
        """What rules are judged by. windows: in which dead letters are counted, in seconds. minute: the oldest."""
        silence, stays = _ms(self._ledger.lease_seconds), _ms(self._ledger.stays_seconds)
        arguments = (silence, stays, "" if minute is None else minute, *map(_ms, windows))
        return self._ledger.call("alerts/look", arguments, lambda found: _read_look(found, windows))

    def commit(self, token: int, states: Mapping[str, RuleState], messages: Iterable[Message]) -> Call[bool]:
        """Write all states, and what is to be sent; False: refused, another looks meanwhile."""
        arguments: list[Argument] = [token, len(states)]
        for name, state in states.items():
            arguments += (name, msgspec.json.encode(state))
        for message in messages:
            arguments += _fields(message)
        return self._ledger.call("alerts/commit", arguments, bool)

    def post(self, message: Message) -> Call[bool]:
        """Have one sent that no rule asked for."""
        return self._ledger.call("alerts/post", _fields(message), bool)

    def due(self, under_way: Iterable[str]) -> Call[list[Parcel]]:
        """What is to be sent now, of lanes that are not under way."""
        return self._ledger.call("alerts/due", tuple(under_way), _read_parcels)

    def sent(
        self, parcel: Parcel, outcome: Outcome, now: float, error: str = "", pause_seconds: float = 0.0
    ) -> Call[bool]:
        """Say what came of sending one."""
        note = Delivered(
            id=parcel.message_id,
            rule=parcel.rule,
            event=parcel.event,
            channel=parcel.channel,
            outcome=outcome,
            at=now,
            tries=parcel.tries + 1,
            error=error,
        )
        arguments = (parcel.name, outcome, _ms(pause_seconds), error, msgspec.json.encode(note))
        return self._ledger.call("alerts/sent", arguments, bool)

    def show(self) -> Call[Shown]:
        """What people may see."""
        return self._ledger.call("alerts/show", (), _read_shown)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _fields(message: Message) -> tuple[Argument, ...]:
    return message.id, message.rule, message.event, message.body, ",".join(message.channels)


def _read_look(found: Sequence[Any], windows: Sequence[float]) -> Look:
    now, states, told, functions, dead, workers, schedulers, lost, counted = found
    names = [name.decode() for name in functions]
    return Look(
        states=_read_states(states),
        told=told,
        counted=frozenset(name.decode() for name in counted),
        facts=Facts(
            now=now / 1000,
            functions=frozenset(names),
            dead={window: dict(zip(names, counts, strict=True)) for window, counts in zip(windows, dead, strict=True)},
            workers=workers,
            schedulers=schedulers,
            lost=tuple((lost[at].decode(), float(lost[at + 1]) / 1000) for at in range(0, len(lost), 2)),
        ),
    )


def _read_states(found: Sequence[bytes]) -> dict[str, RuleState]:
    return {found[at].decode(): _read_state(found[at + 1]) for at in range(0, len(found), 2)}


def _read_state(text: bytes) -> RuleState:
    try:
        return msgspec.json.decode(text, type=RuleState)
    except msgspec.DecodeError:  # another version's: it begins anew rather than to stand still for ever
        return RuleState()


def _read_parcels(found: Sequence[Any]) -> list[Parcel]:
    return [_parcel(found[at].decode(), found[at + 1]) for at in range(0, len(found), 2) if found[at + 1]]


def _parcel(name: str, pairs: Sequence[bytes]) -> Parcel:
    fields = {pairs[at].decode(): pairs[at + 1] for at in range(0, len(pairs), 2)}
    return Parcel(
        name=name,
        event=fields["event"].decode(),
        body=fields["body"],
        made=int(fields["made"]) / 1000,
        due=int(fields["due"]) / 1000,
        tries=int(fields["tries"]),
        error=fields["error"].decode(),
    )


def _read_shown(found: Sequence[Any]) -> Shown:
    now, holder, states, recent, waiting = found
    return Shown(
        now=now / 1000,
        holder=holder.decode(),
        states=_read_states(states),
        recent=[msgspec.json.decode(one, type=Delivered) for one in recent],
        waiting=_read_parcels(waiting),
    )
