"""What authors write as step, chain, group and chord: the nodes it becomes, and what is refused before that."""

import copy
import inspect
import pickle
import sys
from types import ModuleType
from typing import Any

import msgspec
import pytest

from runtime import INJECTED, PREVIOUS, SubmitError, chain, chord, group, step
from runtime.base.errors import DeclarationError, InputError, UnknownFunction
from runtime.declare.loader import load
from runtime.declare.registry import Registry
from runtime.ledger.flows import plan as limits
from runtime.ledger.flows.plan import Plan, Planner
from runtime.ledger.flows.steps import Flow, Previous
from runtime.ledger.options import options_of
from tests.declare.conftest import _restored_imports  # noqa: F401 - what is loaded here is put back

SUMS = """
    import msgspec
    from runtime import INJECTED, Context, Request, fn, http, queue

    class Order(msgspec.Struct):
        sku: str
        notes: list[str] = []

    @queue("sums")
    @fn(max_age="1h")
    async def add(x: float, y: float = 0.0, ctx: Context = INJECTED) -> float: ...

    @queue("totals")
    def total(numbers: list[float]) -> float: ...

    @fn()
    def order(order: Order, more: dict = {}) -> Order: ...

    @fn()
    def untyped(value=None): ...

    @http.get("/stream")
    async def stream():
        yield 1

    @http.get("/needs")
    def needs(request: Request): ...

    def plain(): ...
"""


@pytest.fixture
def registry(write_project) -> Registry:
    registry = load(write_project(**{"functions/sums.py": SUMS}))
    assert registry.failures == ()
    return registry


@pytest.fixture
def sums(registry: Registry) -> ModuleType:
    return sys.modules["functions.sums"]


@pytest.fixture
def planned(registry: Registry):
    def planned(flow: Flow[Any], payload_max: int = 0, **using: Any) -> Plan:
        return Planner(registry, options_of(using), payload_max).plan(flow)

    return planned


def shape(plan: Plan) -> list[tuple[str, int, int, int]]:
    return [(node.kind, node.parent, node.first, node.count) for node in plan.nodes]


def test_nodes_are_numbered_breadth_first(sums, planned):
    inner = chain(step(sums.add, 1), step(sums.add, x=PREVIOUS))
    found = planned(chain(step(sums.add, 0), group(inner, step(sums.add, 2)), step(sums.total, PREVIOUS)))
    assert shape(found) == [
        ("chain", -1, 1, 3),
        ("step", 0, 0, 0),
        ("group", 0, 4, 2),
        ("step", 0, 0, 0),
        ("chain", 2, 6, 2),
        ("step", 2, 0, 0),
        ("step", 4, 0, 0),
        ("step", 4, 0, 0),
    ]
    assert [node.pieces for node in found.nodes if node.kind == "step"] == [
        ('{"x":0}',),
        ('{"numbers":', "}"),
        ('{"x":2}',),
        ('{"x":1}',),
        ('{"x":', "}"),
    ]
    assert found.queues == ("sums", "totals")
    assert {node.function for node in found.nodes} == {"", "sums.add", "sums.total"}


@pytest.mark.parametrize("collect", [False, True])
def test_a_chord_is_a_chain_of_a_group_and_its_body(sums, planned, collect: bool):
    body = chain(step(sums.total, PREVIOUS), step(sums.add, PREVIOUS, y=1))
    chorded = planned(chord((step(sums.add, n) for n in range(3)), body, collect=collect))
    assert chorded.nodes == planned(chain(group(*(step(sums.add, n) for n in range(3)), collect=collect), body)).nodes
    assert [node.collect for node in chorded.nodes[:3]] == [False, collect, False]


def test_previous_may_stand_anywhere_in_the_arguments(sums, planned):
    first = step(sums.untyped)
    for second, pieces in (
        (step(sums.untyped, PREVIOUS), ('{"value":', "}")),
        (step("sums.untyped", value=[PREVIOUS, {"a": (1, PREVIOUS)}]), ('{"value":[', ',{"a":[1,', "]}]}")),
        (step(sums.order, sums.Order(PREVIOUS)), ('{"order":{"sku":', ',"notes":[]}}')),
        (step(sums.order, sums.Order("x", ["é", PREVIOUS])), ('{"order":{"sku":"x","notes":["é",', "]}}")),
        (step(sums.add, x=1, y=copy.deepcopy(PREVIOUS), ctx=INJECTED), ('{"x":1,"y":', "}")),
        (step(sums.untyped, "PREVIOUS"), ('{"value":"PREVIOUS"}',)),
    ):
        assert planned(chain(first, second)).nodes[-1].pieces == pieces


def test_a_part_of_a_group_has_what_its_group_has(sums, planned):
    planned(chain(step(sums.add, 1), group(step(sums.add, PREVIOUS), chain(step(sums.add, PREVIOUS)))))
    planned(chord([], chord([step(sums.untyped, PREVIOUS)], step(sums.total, PREVIOUS))))


def test_options_are_the_steps_own_then_those_of_submit_then_the_functions(sums, planned):
    own = step.using(queue="own", priority=9).using(delay="1m", max_age=7)
    mixed = planned(group(own(sums.add, 1), step(sums.add, 1)), queue="all", priority=1, max_age=3600, delay=5)
    assert [(n.queue, n.priority, n.delay_seconds, n.max_age_seconds) for n in mixed.nodes[1:]] == [
        ("own", 9, 60, 7),
        ("all", 1, 0, 3600),
    ]
    plain = planned(group(step.using(priority=0, queue=None)(sums.add, 1), step(sums.order, sums.Order("x"))))
    assert [(n.queue, n.priority, n.max_age_seconds) for n in plain.nodes[1:]] == [
        ("sums", 0, 3600),
        ("default", 5, None),
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"delay": "soon"}, r"step.using\(delay='soon'\): 'soon' is not a duration"),
        ({"prio": 1}, "step.using: unknown option 'prio'; did you mean \"priority\""),
        ({"id": "x"}, "step.using: unknown option 'id'; there are queue, priority, delay, max_age"),
        ({"at": "2030-01-01T00:00Z"}, "step.using: unknown option 'at'"),
    ],
)
def test_options_of_a_step_that_cannot_hold_name_the_fix(options, says):
    with pytest.raises(SubmitError, match=says):
        step.using(**options)


def test_what_is_no_step_is_refused_where_it_is_written(sums):
    for write, says in (
        (chain, r"chain\(\) has no step"),
        (lambda: chain(sums.add), r"chain: add is no step; write step\(add, ...\)"),
        (lambda: group(step(sums.add, 1), "sums.add"), r'group: sums.add is no step; write step\("sums.add", ...\)'),
        (lambda: group([step(sums.add, 1)]), r"group: a list is no step; write group\(\*steps\)"),
        (lambda: group(step(sums.add, n) for n in range(2)), r"group: a generator is no step; write group\(\*steps\)"),
        (lambda: chain((step(sums.add, 1),)), r"chain: a tuple is no step; write chain\(\*steps\)"),
        (lambda: chain({}), r"chain: {} is no step; write step\(function, ...\)"),
        (lambda: group(collect="yes"), r"group\(..., collect='yes'\): it is True or False"),
        (lambda: chord([], step(sums.total), collect=1), r"chord\(..., collect=1\): it is True or False"),
        (lambda: chord([step(sums.add, 1)], 7), r"chord: 7 is no step; write step\(function, ...\)"),
        (lambda: chord(step(sums.add, 1), step(sums.total)), r"write chord\(\[step, ...\], body\)"),
        (lambda: chord(group(), step(sums.total)), "a list of steps"),
        (lambda: step(7), "the first is a function, or the name of one"),
    ):
        with pytest.raises(SubmitError, match=says):
            write()


def test_what_does_not_fit_names_the_step(sums, planned):
    add, total, untyped = sums.add, sums.total, sums.untyped
    first = step(add, 1)
    for flow, error, says in (
        (chain(first, step("sums.ad", x=1)), UnknownFunction, r'chain\[1\], step\(sums.ad\): no function "sums.ad"'),
        (chain(first, group(first, step(add))), InputError, r"chain\[1\].group\[1\], step\(add\): .*x: required"),
        (chord([step(add, x="1")], step(total, PREVIOUS)), InputError, r"chord.steps\[0\], .*x: Expected `float`"),
        (chord([first], chain(step(total, many=PREVIOUS))), InputError, r"chord.body.chain\[0\], .*many: unknown"),
        (chain(first, step(add, y=PREVIOUS)), InputError, "x: required, but missing"),
        (chain(first, step(add, x="no", y=PREVIOUS)), InputError, "x: Expected `float`, got `str`"),
        (chain(first, step(add, 1, 2, 3, 4)), InputError, r"step\(add\): .*too many positional"),
        (chain(first, step("sums.add", 1)), SubmitError, "with a name, arguments come by name"),
        (chain(step(add, x=PREVIOUS)), SubmitError, r"chain\[0\], step\(add\): PREVIOUS, but nothing comes before"),
        (group(step(add, PREVIOUS)), SubmitError, r"group\[0\], .*nothing comes before"),
        (chord([step(add, PREVIOUS)], step(total, [1])), SubmitError, r"chord.steps\[0\], .*nothing comes before"),
        (chain(step(sums.plain)), SubmitError, "plain is no function of fnrun's"),
        (chain(step(sums.stream)), SubmitError, "streams"),
        (chain(step(sums.needs)), DeclarationError, "cannot supply parameter request"),
        (
            chain(step(add, {1, object()})),
            InputError,
            "are sent as JSON, and these cannot be: Encoding objects of type",
        ),
        (
            chain(step(add, [first])),
            InputError,
            r"step\(add\) runs only within a flow; write submit\(chain\(step\(add\), ",
        ),
        (chain(first, step(untyped, [PREVIOUS, float("nan")])), InputError, "these cannot be: Out of range float"),
        (chain(first, step(untyped, {PREVIOUS: 1})), SubmitError, "it can only be a value"),
    ):
        with pytest.raises(error, match=says):
            planned(flow)


def test_arguments_may_be_too_long(sums, planned, monkeypatch: pytest.MonkeyPatch):
    long = chain(step(sums.untyped, 1), step(sums.untyped, ["é" * 20, PREVIOUS]))
    planned(long, payload_max=55)
    with pytest.raises(SubmitError, match=r"chain\[1\], .* are 55 bytes as JSON, more than 54; .*payload_max"):
        planned(long, payload_max=54)
    monkeypatch.setattr(limits, "MOST_BYTES", 60)
    with pytest.raises(SubmitError, match="the arguments of all steps are more than 60 bytes"):
        planned(long)


def test_a_flow_is_bounded_in_steps_and_in_depth(sums, planned):
    one = step(sums.add, 1)
    assert len(planned(group(*[one] * 10_000)).nodes) == 10_001
    assert len(planned(chain(*[group()] * 10_000)).nodes) == 10_001
    for flow in (group(*[one] * 10_001), group(*[group(*[one] * 101)] * 100)):
        with pytest.raises(SubmitError, match="at most 10000 steps"):
            planned(flow)
    with pytest.raises(SubmitError, match="at most 10000 steps, and 30000 with the flows"):
        planned(chain(*[chain(chain(group()))] * 10_000))
    doubled = chain(one)
    for _ in range(40):
        doubled = group(doubled, doubled)
    with pytest.raises(SubmitError, match="at most"):
        planned(doubled)
    deep = chain(one)
    for _ in range(49):
        deep = chain(deep)
    planned(deep)
    with pytest.raises(SubmitError, match="nested at most 50 deep, in which a chord counts twice"):
        planned(group(deep))


def test_the_result_has_the_type_of_its_steps(sums, planned):
    add, order, untyped = step(sums.add, 1), step(sums.order, sums.Order("x")), step(sums.untyped)
    for flow, returns in (
        (chain(add, order), sums.Order),
        (group(add, add), list[float]),
        (group(chain(order, add), add), list[float]),
        (chord([order], group(group(add))), list[list[float]]),
        (group(add, order), Any),
        (group(add, collect=True), Any),
        (group(untyped, untyped), Any),
        (group(), Any),
        (chain(add, untyped), Any),
    ):
        assert planned(flow).returns == returns


def test_without_a_registry_a_function_says_itself_what_it_is(sums):
    found = Planner(None, options_of({})).plan(chain(step(sums.add, 1), step("any.name", whatever=PREVIOUS)))
    assert [(node.function, node.queue) for node in found.nodes[1:]] == [("sums.add", "sums"), ("any.name", "default")]


def test_previous_is_no_value():
    assert repr(PREVIOUS) == f"{PREVIOUS!r}" == "PREVIOUS"
    for spell in (lambda: f"{PREVIOUS}", lambda: str(PREVIOUS), lambda: "%s" % PREVIOUS):  # noqa: UP031
        with pytest.raises(TypeError, match="cannot be a part of a text"):
            spell()
    for use in (
        lambda: PREVIOUS[0],
        lambda: PREVIOUS["x"],
        lambda: PREVIOUS + 1,
        lambda: 1 + PREVIOUS,
        lambda: "a" + PREVIOUS,
        lambda: 2 * PREVIOUS,
        lambda: PREVIOUS > 1,
        lambda: -PREVIOUS,
        lambda: len(PREVIOUS),
        lambda: list(PREVIOUS),
        lambda: group(*PREVIOUS),
        lambda: int(PREVIOUS),
    ):
        with pytest.raises(TypeError, match="let a step take it whole and pick what it needs"):
            use()
    with pytest.raises(AttributeError, match="let a step take it whole and pick what it needs"):
        PREVIOUS.value  # noqa: B018
    with pytest.raises(TypeError, match="nothing can be decided by it"):
        bool(PREVIOUS)
    with pytest.raises(TypeError, match="type PREVIOUS is unsupported"):
        msgspec.json.encode(PREVIOUS)


def test_previous_is_looked_at_and_copied_as_any_object():
    for one in (copy.copy(PREVIOUS), copy.deepcopy([PREVIOUS])[0], pickle.loads(pickle.dumps(PREVIOUS))):
        assert isinstance(one, Previous)
    assert not hasattr(PREVIOUS, "__wrapped__")
    assert "__repr__" in dict(inspect.getmembers(PREVIOUS))
    assert PREVIOUS in {PREVIOUS: 1}


def test_what_authors_write_shows_itself():
    assert repr(step("a.b", x=1)) == "step(a.b)"
    assert repr(step(test_previous_is_no_value)) == "step(test_previous_is_no_value)"
    assert repr(chord([step("a")], step("b"))) == "<chord of 2>"
