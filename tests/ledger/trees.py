"""Flows as tests write them, numbered breadth first: chain(a, group(b, c)), with step as its parts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from runtime.ledger.flows.nodes import FlowSubmission, Node


@dataclass
class Tree:
    """What a node is, and its parts."""

    kind: Any
    parts: tuple["Tree", ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


def step(function: str = "f", *pieces: str, queue: str = "default", **fields: Any) -> Tree:
    """A step whose arguments are '{}', or these pieces with the last result between them."""
    return Tree("step", (), {"function": function, "queue": queue, "pieces": pieces or ("{}",), **fields})


def chain(*parts: Tree) -> Tree:
    return Tree("chain", parts)


def group(*parts: Tree, collect: bool = False) -> Tree:
    return Tree("group", parts, {"collect": collect})


def chord(parts: list[Tree], body: Tree, *, collect: bool = False) -> Tree:
    return chain(group(*parts, collect=collect), body)


def nodes_of(tree: Tree) -> tuple[Node, ...]:
    return tuple(_walk(tree))


def _walk(tree: Tree) -> Iterator[Node]:
    level, index = [(tree, -1)], 0
    while level:
        below: list[tuple[Tree, int]] = []
        first = index + len(level)
        for one, parent in level:
            count = len(one.parts)
            at = first + len(below)
            yield Node(kind=one.kind, parent=parent, first=at if count else 0, count=count, **one.fields)
            below += [(part, index) for part in one.parts]
            index += 1
        level = below


def submission(tree: Tree, **fields: Any) -> FlowSubmission:
    fields.setdefault("kind", tree.kind)
    return FlowSubmission(nodes=nodes_of(tree), **fields)
