import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Optional, TypedDict, Union, get_type_hints
from uuid import UUID

import msgspec
import pytest

from runtime import INJECTED, Body, Context, Cookie, Header, Query, Request, Tick
from runtime.base.errors import DeclarationError
from runtime.declare.signatures.inputs import inputs_for, model_of
from runtime.declare.signatures.parameters import parameters_of
from runtime.declare.triggers import Cron, Http, Queue


class Order(msgspec.Struct):
    sku: str
    parts: "list[Order]" = []


@dataclass
class Address:
    street: str


class Filter(TypedDict):
    word: str


class Point(NamedTuple):
    x: int


class Colour(Enum):
    RED = "red"


Positive = Annotated[int, msgspec.Meta(gt=0)]
OptionalInt = Optional[int]  # noqa: UP045 - authors write it
OptionalOrder = Optional[Order]  # noqa: UP045 - authors write it
OptionalHeader = Optional[Annotated[str, Header("x")]]  # noqa: UP045 - authors write it
OptionalContext = Optional[Context]  # noqa: UP045 - authors write it
EitherInt = Union[int, None]  # noqa: UP007 - authors write it
WITH_QUERY = ["GET", "HEAD", "OPTIONS", "DELETE"]
WITH_FIELDS = ["POST", "PUT", "PATCH"]


def origins(function, method="POST", path="/x"):
    """Origin of each parameter of a route; "origin wire" where it has another name there."""
    found = inputs_for(Http(line=1, methods=(method,), path=path), parameters_of(function), method, path)
    return {i.name: i.origin if i.wire == i.name else f"{i.origin} {i.wire}" for i in found}


def origin_of(annotation, method="POST"):
    def function(value): ...

    function.__annotations__["value"] = annotation
    return origins(function, method)["value"]


# --- HTTP --------------------------------------------------------------------------------------------------------

SCALARS = [
    int, str, float, bool, bytes, Any, UUID, Decimal, datetime, Colour, Positive, Literal["a", "b"], int | str,
    OptionalInt, EitherInt, Annotated[int | None, "note"], Annotated[int, msgspec.Meta(examples=[1])],
]  # fmt: skip
LISTS = [list, list[int], set[str], tuple[int, ...], tuple[int, str], frozenset[int], list[Positive] | None]
OBJECTS = [
    Order, Address, Filter, Point, dict, dict[str, int], msgspec.Raw, list[Order], list[Order | None], set[Point],
    tuple[Order, int], tuple[Order, ...], Order | None, Order | int, OptionalOrder, Annotated[Order, "note"],
    Annotated[Order, msgspec.Meta(examples=[])],
]  # fmt: skip


@pytest.mark.parametrize("annotation", SCALARS + LISTS, ids=str)
def test_plain_values_are_query_or_fields_by_method(annotation):
    assert {method: origin_of(annotation, method) for method in WITH_QUERY + WITH_FIELDS} == (
        dict.fromkeys(WITH_QUERY, "query") | dict.fromkeys(WITH_FIELDS, "field")
    )


@pytest.mark.parametrize("annotation", OBJECTS, ids=str)
def test_an_object_is_the_body(annotation):
    assert [origin_of(annotation, method) for method in [*WITH_FIELDS, "DELETE"]] == ["body"] * 4


@pytest.mark.parametrize("annotation", OBJECTS, ids=str)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_method_without_a_body_takes_no_object(annotation, method):
    with pytest.raises(
        DeclarationError, match=f"@http {method} /x: parameter value is read from the body, and a {method}"
    ):
        origin_of(annotation, method)


def test_a_parameter_without_annotation_is_a_plain_value():
    def function(a, b=1): ...

    assert origins(function, "GET") == {"a": "query", "b": "query"}


def test_plain_values_beside_a_body_are_query():
    def function(order: Order, dry: bool = False, tags: list[str] | None = None): ...

    assert origins(function) == {"order": "body", "dry": "query", "tags": "query"}


def test_several_objects_are_fields_of_one_body():
    def function(order: Order, address: Address, dry: bool = False): ...

    assert origins(function) == {"order": "field", "address": "field", "dry": "query"}


def test_a_marked_body_is_whole():
    def function(values: Annotated[list[int], Body], dry: bool = False): ...

    assert origins(function) == {"values": "body", "dry": "query"}


@pytest.mark.parametrize("annotation", [Annotated[bytes, Body], Annotated[str, Body()], Annotated[bytes | None, Body]])
def test_a_marked_body_of_bytes_or_text_comes_as_it_is(annotation):
    assert origin_of(annotation) == "raw"


def test_parameters_in_the_path_are_found_by_name():
    def function(customer: str, number: int, limit: int = 10): ...

    assert origins(function, "GET", "/c/{customer}/{number:int}") == {
        "customer": "path",
        "number": "path",
        "limit": "query",
    }


def test_a_path_parameter_without_annotation_has_the_converters_type():
    def function(a, b, c: str): ...

    route = Http(line=1, methods=("GET",))
    found = inputs_for(route, parameters_of(function), "GET", "/{a:int}/{b}/{c:int}")
    assert {i.name: i.parameter.type for i in found} == {"a": int, "b": str, "c": str}


def test_a_function_that_takes_the_request_may_leave_path_parameters_out():
    def function(request: Request): ...

    assert origins(function, "GET", "/c/{customer}") == {"request": "request"}


def test_markers_say_where_a_value_is_read():
    def function(
        a: Annotated[str, Query],
        b: Annotated[list[int], Query("bee")],
        user_agent: Annotated[str, Header],
        agent: Annotated[str, Header("User-Agent")],
        lines: Annotated[list[str], Header("x_lines")],
        session: Annotated[str, Cookie("my_session")],
    ): ...

    assert origins(function) == {
        "a": "query",
        "b": "query bee",
        "user_agent": "header user-agent",
        "agent": "header user-agent",
        "lines": "header x-lines",
        "session": "cookie my_session",
    }


@pytest.mark.parametrize(
    "annotation",
    [Annotated[str | None, Header("x")], Annotated[str, Header("x")] | None, OptionalHeader],
    ids=["outside", "inside", "by another name"],
)
def test_a_marker_counts_inside_and_outside_of_optional(annotation):
    assert origin_of(annotation) == "header x"


def test_notes_of_others_in_annotated_are_let_be():
    assert origin_of(Annotated[int, "note", 7, Query("v"), msgspec.Meta(ge=1)]) == "query v"


@pytest.mark.parametrize("annotation", [Context, Context | None, OptionalContext, Annotated[Context, "note"]], ids=str)
def test_a_context_is_known_by_its_type(annotation):
    assert origin_of(annotation, "GET") == "context"


def test_what_the_runtime_gives_needs_no_default_and_may_have_any():
    def function(ctx: Context = INJECTED, request: Request | None = None, tick: Tick | None = None): ...

    assert origins(function, "GET") == {"ctx": "context", "request": "request"}
    assert [p.required for p in parameters_of(function)] == [True, False, False]


def test_a_tick_that_must_be_there_is_refused_under_http():
    def function(tick: Tick = INJECTED): ...

    with pytest.raises(
        DeclarationError, match=r"@http /x cannot supply parameter tick \(tick\); give it a default of None"
    ):
        origins(function)


# --- other triggers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", [Queue(line=1, name="x"), None])
def test_a_queue_and_a_call_by_name_take_arguments(trigger):
    def function(
        order: Order,
        agent: Annotated[str, Header("user-agent")],
        ctx: Context,
        request: Request | None = None,
        tick: Tick | None = None,
    ): ...

    found = inputs_for(trigger, parameters_of(function), "", "")
    assert [(i.name, i.origin, i.wire) for i in found] == [
        ("order", "argument", "order"),
        ("agent", "argument", "agent"),
        ("ctx", "context", "ctx"),
    ]


def test_a_call_by_name_cannot_give_a_request():
    def function(request: Request): ...

    with pytest.raises(DeclarationError, match=r"^a call by name cannot supply parameter request"):
        inputs_for(None, parameters_of(function), "", "")


def test_a_call_by_name_is_a_tick_where_one_must_be():
    def function(tick: Tick, another: Tick | None = None, n: int = 0): ...

    found = inputs_for(None, parameters_of(function), "", "")
    assert {i.name: i.origin for i in found} == {"tick": "tick", "n": "argument"}


def test_a_tick_gives_itself_a_context_and_its_payload():
    def function(tick: Tick, ctx: Context, n: int, limit: int = 10, request: Request | None = None): ...

    trigger = Cron(line=1, rule="@daily", payload={"n": 1})
    found = inputs_for(trigger, parameters_of(function), "", "")
    assert {i.name: i.origin for i in found} == {"tick": "tick", "ctx": "context", "n": "argument"}


def test_a_payload_cannot_name_what_is_injected():
    def function(ctx: Context): ...

    trigger = Cron(line=1, rule="@daily", payload={"ctx": 1})
    with pytest.raises(DeclarationError, match="@cron: payload has 'ctx', which the function does not take"):
        inputs_for(trigger, parameters_of(function), "", "")


# --- one call reads them all -------------------------------------------------------------------------------------


def test_one_model_reads_all_and_leaves_out_what_is_absent():
    def function(n: int, word: str = "x", when: datetime | None = None): ...

    model = model_of(inputs_for(None, parameters_of(function), "", ""))
    assert msgspec.convert({"n": 1}, model) == {"n": 1}
    assert msgspec.convert({"n": 1, "when": "2030-01-01T00:00:00Z"}, model) == {
        "n": 1,
        "when": datetime(2030, 1, 1, tzinfo=UTC),
    }
    with pytest.raises(msgspec.ValidationError, match="missing required field `n`"):
        msgspec.convert({"word": "y"}, model)
    assert get_type_hints(model, include_extras=True)["word"] == NotRequired[str]


IN_A_NEW_PROCESS = """
from dataclasses import dataclass
from typing import TypedDict
import msgspec
from runtime.declare.signatures.inputs import inputs_for, model_of
from runtime.declare.signatures.parameters import parameters_of
from runtime.declare.triggers import Http
from runtime.invoke.readers import body_reader

@dataclass
class Größe:
    höhe: int
    länge: int = 1

class Maß(TypedDict):
    größe: Größe

class Ä(msgspec.Struct, tag_field="für", tag="ä"): ...
class Ö(msgspec.Struct, tag_field="für", tag="ö"): ...

def function(wört: str, maße: list[Maß], welches: Ä | Ö, zahl: int = 1): ...

body = '{"wört": "ß", "maße": [{"größe": {"höhe": 2, "länge": 3}}], "welches": {"für": "ö"}}'.encode()
found = parameters_of(function)
by_name, post = (inputs_for(trigger, found, "POST", "/x") for trigger in (None, Http(line=1, methods=("POST",))))
objects = {"maße": [{"größe": Größe(2, 3)}], "welches": Ö()}
assert body_reader(post)(body) == objects  # the others are read from the query
assert msgspec.convert(msgspec.json.decode(body), model_of(by_name)) == {"wört": "ß", **objects}
"""


def test_names_that_are_not_ascii_are_read_by_a_process_that_never_wrote_them():
    done = subprocess.run([sys.executable, "-c", IN_A_NEW_PROCESS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
