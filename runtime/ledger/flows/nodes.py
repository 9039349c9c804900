"""A flow as the ledger takes it: a list of nodes, and how it is submitted.

Made of what authors write by flows.plan; accepted by Ledger.accept_flow.
"""

from typing import Literal

import msgspec

from runtime.ledger.records import DEFAULT_PRIORITY


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A step, or a chain or a group of nodes. Nodes are numbered breadth first, 0 is the root.

    parent: its number, -1 of the root. first, count: of its children, which follow one another. collect: of a group
    that takes failures as outcomes. The rest is of a step: delay_seconds, from when it could begin; max_age_seconds, as
    of a Submission; pieces: the arguments' JSON text, split where the last result is to stand; ("{}",) has no place.
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
    """A flow to be accepted; due to trace as of a Submission.

    kind: what its author wrote; a chord is a chain of a group and its body. max_length: refuse if a queue's open runs
    and this flow's steps of that queue are more. payload_max: bytes of a step's arguments, with the last result in
    them; 0 for no limit.
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
