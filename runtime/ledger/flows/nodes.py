"""A flow as the ledger accepts it: a tree of nodes, numbered breadth first.

Made by submit of what an author wrote; read by Ledger.accept_flow. Checks nothing: whoever makes one has.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec

from runtime.ledger.records import DEFAULT_PRIORITY


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A step; or what consists of nodes: a chain, one after the other, or a group, all at once.

    parent: index of the node it is part of, -1 for the first. first, count: its own parts are first, first + 1, and so
    on. collect: a group whose result are outcomes, failed ones too. Of a step: pieces, its arguments' JSON, cut where
    the last result is to stand; delay_seconds, from when it could begin; the rest as in Submission.
    """

    kind: Literal["step", "chain", "group"]
    parent: int = -1
    first: int = 0
    count: int = 0
    collect: bool = False
    function: str = ""
    queue: str = ""
    priority: int = DEFAULT_PRIORITY
    delay_seconds: float = 0.0
    max_age_seconds: float | None = None
    pieces: tuple[str, ...] = ()


class FlowSubmission(msgspec.Struct, frozen=True, kw_only=True):
    """A flow to be accepted. Its run has its id; that of a step is the flow's id, "-", and the index of its node.

    nodes: the parts of each are consecutive, those of an earlier node first. A chord is a chain of a group and a body.
    max_length: refuse if a queue had more open runs with this flow's steps; 0 for no limit. payload_max: bytes of a
    step's arguments with the last result in them, above which it fails; 0 for no limit. The rest as in Submission.
    """

    id: str
    kind: Literal["chain", "group", "chord"]
    nodes: tuple[Node, ...]
    parent: str = ""
    trace: str = ""
    priority: int = DEFAULT_PRIORITY
    due: float | None = None
    delay_seconds: float = 0.0
    dedupe: str = ""
    dedupe_seconds: float = 86_400.0
    max_length: int = 0
    payload_max: int = 0
    callback: str = ""

    @property
    def function(self) -> str:
        """What its run has in place of a function's name."""
        return f"flow:{self.kind}"

    def steps(self) -> Counter[str]:
        """How many steps there are, by queue."""
        return Counter(node.queue for node in self.nodes if node.kind == "step")


class _Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node as scripts/flows.lua reads it."""

    kind: str
    path: list[int]
    prio: int
    first: int = -1
    count: int = -1
    collect: bool = False
    fn: str = ""
    q: str = ""
    delay: int = 0
    age: int | None = None
    pieces: tuple[str, ...] = ()
    levels: list[tuple[int, int]] = []


def stored(nodes: Sequence[Node]) -> list[bytes]:
    """What the store keeps of each node: JSON."""
    encode = msgspec.json.Encoder().encode
    paths: list[list[int]] = []
    found = []
    for index, node in enumerate(nodes):
        above = node.parent
        paths.append([] if above < 0 else [above, *paths[above]])
        is_step = node.kind == "step"
        found.append(
            encode(
                _Stored(
                    kind=node.kind,
                    path=paths[index],
                    prio=node.priority,
                    first=-1 if is_step else node.first,
                    count=-1 if is_step else node.count,
                    collect=node.collect,
                    fn=node.function,
                    q=node.queue,
                    delay=round(node.delay_seconds * 1000),
                    age=None if node.max_age_seconds is None else round(node.max_age_seconds * 1000),
                    pieces=node.pieces,
                    levels=[] if is_step or above < 0 or not nodes[above].collect else _levels(nodes, index),
                )
            )
        )
    return found


def _levels(nodes: Sequence[Node], index: int) -> list[tuple[int, int]]:
    """The first and last node of each level below one: breadth first, they are consecutive."""
    found: list[tuple[int, int]] = []
    level = range(index, index + 1)
    while True:
        parts = [nodes[at] for at in level if nodes[at].count]
        if not parts:
            return found
        level = range(parts[0].first, parts[-1].first + parts[-1].count)
        found.append((level[0], level[-1]))
