"""Compile what an author wrote into the nodes of a flow, and say what is wrong with it before anything is accepted.

Called by submit. Knows no store. An error of a step begins with its place: `chain[1].group[0], step(orders.add)`.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from types import GenericAlias
from typing import Any

import msgspec
from typing_extensions import override

from runtime.base.errors import FnrunError, SubmitError
from runtime.ledger.flows.nodes import Node
from runtime.ledger.flows.steps import Flow, Part, Step, shown, writer
from runtime.ledger.options import Options
from runtime.ledger.records import DEFAULT_PRIORITY
from runtime.ledger.targets import Catalogue, Named, Target, by_name, check_size, target_of, written

MOST_STEPS = 10_000
MOST_NODES = 30_000
"""Steps, and the flows they stand in: so many flows of one step each could be written."""
MOST_DEEP = 50
MOST_BYTES = 64_000_000
"""Of all arguments of a flow, which the store takes in as a whole."""


class Plan(msgspec.Struct, frozen=True):
    """A flow that may be submitted. returns: the annotation of its result, Any where that is not known."""

    nodes: tuple[Node, ...]
    returns: Any

    @property
    def queues(self) -> tuple[str, ...]:
        """Where its steps go."""
        return tuple(sorted({node.queue for node in self.nodes if node.kind == "step"}))


class _Place(msgspec.Struct, frozen=True, eq=False):
    """A part of a flow. name: of its place in the flow above. depth: flows above it. fed: there is a last result."""

    part: Part[Any]
    name: str
    above: "_Place | None" = None
    parent: int = -1
    depth: int = 0
    fed: bool = False

    @override
    def __str__(self) -> str:
        names: list[str] = []
        at: _Place | None = self
        while at is not None:
            names.append(at.name)
            at = at.above
        return "".join(reversed(names))


class Planner:
    """Compiles flows for one catalogue. options: of the submit, for what a step does not say. payload_max: bytes."""

    def __init__(self, catalogue: Catalogue | None, options: Options, payload_max: int = 0) -> None:
        self._catalogue = catalogue
        self._options = options
        self._payload_max = payload_max
        self._token = secrets.token_hex(16)  # stands in no author's arguments
        self._write = writer(self._token)
        self._bytes = 0
        self._targets: dict[int, Target] = {}

    def plan(self, flow: Flow[Any]) -> Plan:
        """The nodes of a flow. SubmitError, UnknownFunction, DeclarationError, InputError, BindingFailed."""
        places = [_Place(flow, flow.kind)]
        nodes: list[Node] = []
        returns: list[Any] = []
        steps = 0
        for place in places:  # which grows meanwhile: breadth first
            if isinstance(place.part, Step):
                steps += 1
                if steps > MOST_STEPS:
                    raise SubmitError(f"a flow has at most {MOST_STEPS} steps; let a step submit a flow of its own")
                node, target = self._step(place, place.part)
                returns.append(target.returns)
            else:
                below = self._below(place, len(nodes))
                node = _node_of(place, first=len(places), count=len(below))
                places += below
                returns.append(Any)
                if len(places) > MOST_NODES:
                    raise SubmitError(
                        f"a flow has at most {MOST_STEPS} steps, and {MOST_NODES} with the flows that they stand in; "
                        "let a step submit a flow of its own"
                    )
            nodes.append(node)
        return Plan(tuple(nodes), _result(nodes, returns))

    def _below(self, place: _Place, number: int) -> list[_Place]:
        """The parts of a flow in their places. number: the flow's own."""
        flow = _flow_of(place.part)
        if place.depth >= MOST_DEEP:
            raise SubmitError(f"flows are nested at most {MOST_DEEP} deep, in which a chord counts twice")
        if flow.kind == "chord":
            *steps, body = flow.parts
            named: list[tuple[str, Part[Any]]] = [
                (".steps", Flow("group", steps, collect=flow.collect)), (".body", body),
            ]  # fmt: skip
        else:
            named = [(f"[{at}]", part) for at, part in enumerate(flow.parts)]
        return [
            _Place(
                part,
                f"{name}.{part.kind}" if isinstance(part, Flow) and name != ".steps" else name,
                place,
                number,
                place.depth + 1,
                place.fed or (at > 0 and flow.kind != "group"),
            )
            for at, (name, part) in enumerate(named)
        ]

    def _step(self, place: _Place, step: Step[Any]) -> tuple[Node, Target]:
        own, flow = step.options, self._options
        with _named(place, step):
            target = self._target(step.function)
            pieces = self._pieces(target, step, fed=place.fed)
        priority = flow.priority if own.priority is None else own.priority
        node = Node(
            kind="step",
            parent=place.parent,
            function=target.name,
            queue=own.queue or flow.queue or target.queue,
            priority=DEFAULT_PRIORITY if priority is None else priority,
            delay_seconds=own.delay_seconds,
            max_age_seconds=own.max_age_seconds or flow.max_age_seconds or target.max_age_seconds,
            pieces=pieces,
        )
        return node, target

    def _target(self, function: Named) -> Target:
        """What to run; looked for once."""
        found = self._targets.get(id(function))
        if found is None:
            found = self._targets[id(function)] = target_of(function, self._catalogue)
        return found

    def _pieces(self, target: Target, step: Step[Any], *, fed: bool) -> tuple[str, ...]:
        """The arguments' JSON, split where PREVIOUS stands. What is known of them is checked."""
        given = by_name(step.function, step.args, step.arguments)
        payload = written(target, given, self._write)
        mark = b'"%b"' % self._token.encode()
        self._weigh(target, len(payload) - len(mark) * payload.count(mark))
        if mark not in payload:
            if target.plan is not None:
                target.plan.bind(payload)
            return (payload.decode(),)
        pieces = tuple(piece.decode() for piece in payload.split(mark))
        if any(piece.startswith(":") for piece in pieces[1:]):
            raise SubmitError("PREVIOUS is the key of a mapping; it can only be a value")
        if not fed:
            raise SubmitError(
                "PREVIOUS, but nothing comes before: it is for what follows in a chain, or a chord's body"
            )
        if target.plan is not None:
            later = {name for name, value in given.items() if mark in written(target, {name: value}, self._write)}
            now = {name: value for name, value in given.items() if name not in later}
            target.plan.check(written(target, now), later)
        return pieces

    def _weigh(self, target: Target, size: int) -> None:
        check_size(target, size, self._payload_max)
        self._bytes += size
        if self._bytes > MOST_BYTES:
            raise SubmitError(
                f"the arguments of all steps are more than {MOST_BYTES} bytes as JSON; keep them elsewhere, and submit "
                "where they are"
            )


def _node_of(place: _Place, first: int, count: int) -> Node:
    flow = _flow_of(place.part)
    if flow.kind == "group":
        return Node(kind="group", parent=place.parent, first=first, count=count, collect=flow.collect)
    return Node(kind="chain", parent=place.parent, first=first, count=count)


def _flow_of(part: Part[Any]) -> Flow[Any]:
    assert isinstance(part, Flow)  # noqa: S101 - there are steps and flows
    return part


def _result(nodes: list[Node], returns: list[Any]) -> Any:
    """The annotation of the root's result. returns: those of the steps, by their numbers; filled from the end."""
    for number in range(len(nodes) - 1, -1, -1):
        node = nodes[number]
        below = returns[node.first : node.first + node.count]
        if node.kind == "chain":
            returns[number] = below[-1]
        elif node.kind == "group" and below and not node.collect and all(one == below[0] for one in below):
            returns[number] = Any if below[0] is Any else GenericAlias(list, (below[0],))
    return returns[0]


@contextmanager
def _named(place: _Place, step: Step[Any]) -> Iterator[None]:
    """An error begins with the place of the step."""
    try:
        yield
    except FnrunError as error:
        error.args = (f"{place}, step({shown(step.function)}): {error}",)
        raise
