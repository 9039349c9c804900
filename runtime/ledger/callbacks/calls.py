"""What is asked of the ledger about callbacks, each one script.

Run by those who deliver them, and by the API. No I/O here.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from runtime.ledger.callbacks.records import CallbackView, Message, Told
from runtime.ledger.calls import Argument, Call
from runtime.ledger.ledger import Ledger

MOST_PER_HOST = 8
"""Messages that one process sends to one host at a time: one that is slow shall not hold up all others."""


def take(
    ledger: Ledger, most: int, lease_seconds: float, hosts: Mapping[str, int] = MappingProxyType({})
) -> Call[list[Message]]:
    """At most so many messages whose time has come. Whoever holds one longer than its lease shares it with others.

    hosts: how many messages are being sent to each, with its port where the URL says one, in lower case.
    """
    sent = [part for pair in hosts.items() for part in pair]
    return ledger.call("callbacks/take", (most, round(lease_seconds * 1000), MOST_PER_HOST, *sent), _read_messages)


def tell(ledger: Ledger, told: Iterable[Told]) -> Call[list[bool]]:
    """Write what came of messages. False: refused, somebody else has that one by now."""
    arguments: list[Argument] = []
    for one in told:
        status = "" if one.status is None else one.status
        arguments += (one.id, one.token, one.verdict, status, one.error, round(one.pause_seconds * 1000))
    return ledger.call("callbacks/told", arguments, lambda found: [bool(one) for one in found])


def retry(ledger: Ledger, ids: Iterable[str]) -> Call[list[str]]:
    """Try messages now: those that were given up, from the first try on, and those that wait.

    For each: waiting; left alone: delivered, unknown.
    """
    return ledger.call("callbacks/again", tuple(ids), lambda found: [word.decode() for word in found])


def find(ledger: Ledger, state: Literal["waiting", "dead"], most: int) -> Call[tuple[int, list[CallbackView]]]:
    """How many messages wait, or are given up, and some of them: the next first, and the newest."""
    return ledger.call("callbacks/list", (state, most), _read_list)


def _read_messages(found: Sequence[Any]) -> list[Message]:
    return [Message.of(*one) for one in found]


def _read_list(found: Sequence[Any]) -> tuple[int, list[CallbackView]]:
    return found[0], [CallbackView.of(one) for one in found[1:]]
