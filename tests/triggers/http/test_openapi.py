"""The OpenAPI document: complete, in order, and true of what is answered."""

import json
import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from runtime.declare.triggers import Http
from runtime.projects import Project, load_project
from runtime.roles import HttpRole
from runtime.triggers.http.openapi import describe
from tests.conftest import client_of, client_on
from tests.keys import bearer, key_in

HEADER = """
    import datetime, decimal
    from collections.abc import AsyncIterator
    from typing import Annotated, Any
    from uuid import UUID
    import msgspec
    from starlette.responses import Response
    from typing_extensions import deprecated
    from runtime import Body, Event, Header, Html, PlainText, Reply, Request, UploadFile, http
"""


@pytest.fixture
def described(write_project):
    """The valid document of a file with these functions."""

    def describe_file(text: str) -> dict[str, Any]:
        project = load_project(write_project(**{"functions/app.py": HEADER + text}), {"http__auth": "public"})
        assert project.registry.failures == ()
        document = describe(project.registry, project.settings.http, "1")
        OpenAPIV31SpecValidator(document).validate()
        return document

    return describe_file


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for item in document["paths"].values() for operation in item.values()]


def test_every_route_is_there_under_an_id_of_its_own(samples: Project):
    document = describe(samples.registry, samples.settings.http, "1")
    OpenAPIV31SpecValidator(document).validate()
    routes = [
        (method, trigger)
        for function in samples.registry.functions.values()
        for trigger in function.triggers
        if isinstance(trigger, Http)
        for method in trigger.methods
    ]
    assert len(operations(document)) == len(routes)
    assert len({operation["operationId"] for operation in operations(document)}) == len(routes)


def test_the_document_is_the_same_every_time(samples: Project):
    first, second = (json.dumps(describe(samples.registry, samples.settings.http, "1")) for _ in range(2))
    assert first == second


def test_parameters_have_their_defaults_constraints_and_words(described):
    document = described("""
    @http.get("/items/{kind}/{number:int}/{rest:path}")
    async def items(
        kind: str, number: int, rest: str,
        limit: Annotated[int, msgspec.Meta(ge=1, le=9, description="How many.", examples=[3])] = 5,
        since: datetime.datetime | None = None,
        price: decimal.Decimal = decimal.Decimal("1.5"),
        x_tag: Annotated[list[str], Header] = [],
    ) -> list[str]: ...
    """)
    kind, number, rest, tag, limit, since, price = document["paths"]["/items/{kind}/{number}/{rest}"]["get"][
        "parameters"
    ]
    assert (kind["schema"]["minLength"], kind["schema"]["not"]) == (1, {"enum": [".", ".."]})
    assert number["schema"] == {"type": "integer", "minimum": 0}
    assert "slashes" in rest["description"]
    assert (tag["name"], tag["in"], tag["schema"]["default"]) == ("x-tag", "header", [])
    assert limit == {
        "name": "limit",
        "in": "query",
        "description": "How many.",
        "required": False,
        "schema": {"type": "integer", "minimum": 1, "maximum": 9, "examples": [3], "default": 5},
    }
    assert since["schema"]["anyOf"] == [{"type": "string", "format": "date-time"}, {"type": "null"}]
    assert price["schema"]["default"] == "1.5"
    assert [one.get("format", one["type"]) for one in price["schema"]["anyOf"]] == ["decimal", "number"]


@pytest.mark.parametrize(
    ("pattern", "annotation", "schema"),
    [
        ("{x}", "Annotated[str, msgspec.Meta(min_length=3)]", {"type": "string", "minLength": 3}),
        ("{x:path}", "Annotated[str, msgspec.Meta(min_length=3)]", {"type": "string", "minLength": 3}),
        ("{x:int}", "Annotated[int, msgspec.Meta(ge=3)]", {"type": "integer", "minimum": 3}),
        ("{x:int}", "Annotated[int, msgspec.Meta(ge=-3)]", {"type": "integer", "minimum": 0}),
        ("{x:int}", "str", {"type": "string", "pattern": "^[0-9]+$"}),
        ("{x:float}", "float", {"type": "number", "minimum": 0}),
        ("{x}", "int", {"type": "integer"}),
        ("{x}", "UUID", {"type": "string", "format": "uuid"}),
        ("{x:uuid}", "UUID", {"type": "string", "format": "uuid"}),
        ("{x:int}", "int | None", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
    ],
)
def test_a_path_parameter_is_held_to_its_type_and_its_converter(described, pattern: str, annotation: str, schema: dict):
    document = described(f"""
    @http.get("/x/{pattern}")
    async def x(x: {annotation}) -> None: ...
    """)
    found = document["paths"]["/x/{x}"]["get"]["parameters"][0]["schema"]
    assert found | schema == found


def test_a_path_that_only_a_request_sees_is_described(described):
    document = described("""
    @http.get("/x/{a}/{b:int}")
    async def x(request: Request, b: int) -> None: ...
    """)
    a, b = document["paths"]["/x/{a}/{b}"]["get"]["parameters"]
    assert (a["name"], a["schema"]["type"], b["name"], b["schema"]["type"]) == ("a", "string", "b", "integer")


def test_types_inside_types_are_exact_too(described):
    document = described("""
    class Inner(msgspec.Struct):
        at: list[datetime.time]
        prices: dict[str, decimal.Decimal]
        pair: tuple[datetime.datetime, datetime.timedelta]
        naive: Annotated[datetime.datetime, msgspec.Meta(tz=False)]

    class Row(msgspec.Struct, array_like=True, tag="row"):
        at: datetime.datetime

    @http.post
    async def put(inner: list[Inner]) -> Row: ...
    """)
    inner, row = (document["components"]["schemas"][name] for name in ("Inner", "Row"))
    assert inner["properties"]["at"]["items"]["format"] == "time"
    assert "anyOf" in inner["properties"]["prices"]["additionalProperties"]
    assert [one["format"] for one in inner["properties"]["pair"]["prefixItems"]] == ["date-time", "duration"]
    assert inner["properties"]["naive"] == {"type": "string"}
    assert row["prefixItems"] == [{"enum": ["row"]}, {"type": "string", "format": "date-time"}]


@pytest.mark.parametrize(
    ("parameters", "required", "kinds"),
    [
        ("x: int", True, {"application/json", "application/x-www-form-urlencoded"}),
        ("x: int = 1", False, {"application/json", "application/x-www-form-urlencoded"}),
        ("x: Flat", True, {"application/json", "application/x-www-form-urlencoded"}),
        ("x: Deep", True, {"application/json"}),
        ("x: Flat, y: Flat", True, {"application/json"}),
        ("x: list[Flat]", True, {"application/json"}),
        ("x: Flat | None = None", False, {"application/json", "application/x-www-form-urlencoded"}),
        ("x: Annotated[bytes, Body]", False, {"*/*"}),
        ("x: Annotated[str, Body]", False, {"text/plain"}),
        ("x: UploadFile, y: int = 1", True, {"multipart/form-data"}),
        ("request: Request", False, {"*/*"}),
    ],
)
def test_a_body_is_of_these_types(described, parameters: str, required: bool, kinds: set[str]):
    document = described(f"""
    class Flat(msgspec.Struct):
        n: int
        tags: list[str] = []

    class Deep(msgspec.Struct):
        flat: Flat

    @http.post("/x")
    async def take({parameters}) -> int: ...
    """)
    body = document["paths"]["/x"]["post"]["requestBody"]
    assert (body["required"], set(body["content"])) == (required, kinds)


@pytest.mark.parametrize(
    ("returns", "successes"),
    [
        ("int", {"200": {"application/json"}}),
        ("None", {"204": set()}),
        ("int | None", {"200": {"application/json"}, "204": set()}),
        ("PlainText", {"200": {"text/plain; charset=utf-8"}}),
        ("Html | dict[str, int]", {"200": {"text/html; charset=utf-8", "application/json"}}),
        ("bytes", {"200": {"application/octet-stream"}}),
        ("Any", {"200": {"*/*"}, "204": set()}),
        ("Reply", {"2XX": {"*/*"}, "204": set()}),
        ("Response", {"2XX": {"*/*"}, "204": set()}),
        ("Nothing", {"200": {"application/json"}}),
        ("AsyncIterator[int]", {"200": {"application/x-ndjson"}}),
        ("AsyncIterator[str]", {"200": {"text/plain; charset=utf-8"}}),
        ("AsyncIterator[Html]", {"200": {"text/html; charset=utf-8"}}),
        ("AsyncIterator[bytes]", {"200": {"application/octet-stream"}}),
        ("AsyncIterator[Event]", {"200": {"text/event-stream; charset=utf-8"}}),
        ("AsyncIterator[Any]", {"200": {"*/*"}}),
        ("AsyncIterator[Annotated[bytes, 1]]", {"200": {"application/octet-stream"}}),
    ],
)
def test_a_success_is_of_this_status_and_type(described, returns: str, successes: dict[str, set[str]]):
    document = described(f"""
    class Nothing:
        "A class that no schema is known of."

    @http.get("/x")
    async def give() -> {returns}: ...
    """)
    responses = document["paths"]["/x"]["get"]["responses"]
    found = {s: r for s, r in responses.items() if s.startswith("2") and s != "202"}
    assert {s: set(r.get("content", ())) for s, r in found.items()} == successes
    assert all("X-Run-Id" in r["headers"] for r in found.values())


def test_what_can_be_answered_later_says_so(described):
    document = described("""
    @http.get("/later")
    async def later() -> int: ...

    @http.post("/said", status=202)
    async def said() -> int: ...

    @http.get("/stream")
    async def stream() -> AsyncIterator[int]: ...

    @http.get("/request")
    async def request(request: Request) -> int: ...

    @http.post("/file")
    async def file(file: UploadFile) -> int: ...

    @http.get("/response")
    async def response() -> Response | None: ...
    """)
    later = document["paths"]["/later"]["get"]["responses"]["202"]
    assert later == {"$ref": "#/components/responses/Accepted"}
    assert set(document["components"]["responses"]["Accepted"]["headers"]) == {
        "X-Run-Id",
        "Location",
        "Preference-Applied",
    }
    assert document["paths"]["/said"]["post"]["responses"]["202"]["description"] == "Success."
    for path in ("/stream", "/request", "/file", "/response"):
        assert "202" not in next(iter(document["paths"][path].values()))["responses"]


def test_a_status_that_is_said_is_the_one_described(described):
    document = described("""
    @http.post("/made", status=201)
    async def made() -> int | None: ...

    @http.post("/gone", status=204)
    async def gone() -> int: ...
    """)
    made, gone = (document["paths"][path]["post"]["responses"] for path in ("/made", "/gone"))
    assert [status for status in made if status[0] == "2"] == ["201", "202"]
    assert gone["204"].keys() == {"description", "headers"}
    assert "200" not in gone


def test_a_stream_says_what_each_item_is(described):
    document = described("""
    class Step(msgspec.Struct):
        n: int

    @http.get("/steps")
    async def steps() -> AsyncIterator[Step]:
        yield Step(1)

    @http.get("/news")
    async def news() -> AsyncIterator[Event]:
        yield Event(1)
    """)
    steps, news = (document["paths"][path]["get"]["responses"]["200"]["content"] for path in ("/steps", "/news"))
    assert steps["application/x-ndjson"]["x-itemSchema"] == {"$ref": "#/components/schemas/Step"}
    assert set(news["text/event-stream; charset=utf-8"]["x-itemSchema"]["properties"]) == {
        "event",
        "id",
        "data",
        "retry",
    }


def test_patterns_that_differ_in_a_converter_are_one_path_that_names_them_all(described):
    document = described("""
    @http.get("/x/{b}", auth="key")
    async def by_name(b: str, loud: bool = False) -> str:
        "By name."

    @http.get("/x/{a:int}")
    async def by_number(a: int, loud: bool) -> int | None:
        "By number."

    @http.put("/x/{c:uuid}")
    async def store(c: UUID, n: int) -> None: ...

    @http.post("/x/{d}")
    async def first(d, n: int) -> int: ...

    @http.post("/x/{e:int}")
    async def second(e, s: Annotated[str, Body]) -> int: ...
    """)
    assert set(document["paths"]) == {"/x/{b}"}
    item = document["paths"]["/x/{b}"]
    assert list(item) == ["get", "post", "put"]
    get = item["get"]
    assert (get["operationId"], get["summary"]) == ("app.by_number or app.by_name", "By number. / By name.")
    assert "- `/x/{a:int}`: `app.by_number`. By number.\n- `/x/{b}`: `app.by_name`. By name." in get["description"]
    path, loud = get["parameters"]
    assert (path["name"], [one["type"] for one in path["schema"]["anyOf"]]) == ("b", ["integer", "string"])
    assert (loud["name"], loud["required"]) == ("loud", False)
    success = get["responses"]["200"]["content"]["application/json"]["schema"]
    assert success["anyOf"][-1] == {"type": "string"}
    assert {"204", "401", "404"} <= set(get["responses"])
    assert get["security"] == [{}, {"key": []}]
    assert item["put"]["parameters"][0]["name"] == "b"
    assert set(item["post"]["requestBody"]["content"]) == {
        "application/json",
        "application/x-www-form-urlencoded",
        "text/plain",
    }
    assert item["post"]["requestBody"]["required"] is False


def test_ids_say_what_makes_routes_of_one_function_different(described):
    document = described("""
    @http.get("/a")
    @http.get("/b")
    @http.post("/b")
    async def several() -> None: ...
    """)
    ids = {operation["operationId"] for operation in operations(document)}
    assert ids == {"app.several:get:/a", "app.several:get:/b", "app.several:post"}


def test_words_and_examples_come_from_the_docstring(described):
    document = described('''
    @http.post("/sum/{unit}")
    @deprecated("use /total")
    async def add(unit: str, x: int, y: int = 0, loud: Annotated[bool, Header] = False) -> int:
        """Add x and y.

        Slowly.

        Example: two numbers
            {"unit": "cm", "x": 2, "y": 3}
        Example: {"unit": "m", "x": 1, "loud": true}
        """

    @http.post("/raw")
    async def raw(body: Annotated[bytes, Body]) -> None:
        """Take it.

        Example: {"body": "YWJj"}
        Example: {"body": "/w=="}
        """

    class Order(msgspec.Struct):
        sku: str

    @http.post("/order")
    async def order(order: Order) -> None:
        """Take it.

        Example: {"order": {"sku": "X"}}
        """
    ''')
    add = document["paths"]["/sum/{unit}"]["post"]
    assert (add["summary"], add["deprecated"]) == ("Add x and y.", True)
    assert add["description"] == "Slowly.\n\nDeprecated: use /total"
    assert add["parameters"][0]["examples"] == {"two numbers": {"value": "cm"}, "example": {"value": "m"}}
    assert add["parameters"][1]["examples"] == {"example": {"value": True}}
    json_body = add["requestBody"]["content"]["application/json"]
    assert json_body["examples"] == {"two numbers": {"value": {"x": 2, "y": 3}}, "example": {"value": {"x": 1}}}
    raw, order = (document["paths"][path]["post"]["requestBody"]["content"] for path in ("/raw", "/order"))
    assert raw["*/*"]["examples"] == {"example": {"value": "abc"}}
    assert order["application/json"]["examples"] == {"example": {"value": {"sku": "X"}}}


def test_a_default_that_only_python_can_hold_is_left_out(described):
    document = described("""
    @http.get("/x")
    async def x(n: int = object()) -> None: ...
    """)
    assert "default" not in document["paths"]["/x"]["get"]["parameters"][0]["schema"]


ROUTES = """
    import asyncio

    @http.post("/json/{n}", max_body="1kB", timeout="50ms", auth="key")
    async def json(n: int, x: int, wait: Annotated[bool, Header] = False, fail: Annotated[bool, Header] = False) -> int:
        if fail:
            raise ValueError
        await asyncio.sleep(5 if wait else 0)
        return x

    @http.get("/number/{n:int}")
    async def number(n: int, q: str = "") -> int:
        return n

    @http.post("/raw", max_body="1kB")
    async def raw(body: Annotated[bytes, Body]) -> bytes:
        return body

    @http.post("/text")
    async def text(body: Annotated[str, Body]) -> PlainText:
        return body

    @http.get("/events")
    async def events() -> AsyncIterator[Event]:
        yield Event(1)

    @http.get("/plain")
    async def plain(q: str = "", x_a: Annotated[str, Header] = "") -> str:
        return q
"""
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "status", "request_"),
    [
        ("POST", "/json/1", 200, {"json": {"x": 1}}),
        ("POST", "/json/1", 400, {"content": b"{", "headers": JSON}),
        ("POST", "/json/%2e%2e", 400, {"json": {"x": 1}}),
        ("POST", "/json/1", 401, {"json": {"x": 1}, "key": None}),
        ("POST", "/json/1", 403, {"json": {"x": 1}, "key": ("read",)}),
        ("POST", "/json/1", 413, {"content": b" " * 2000, "headers": JSON}),
        ("POST", "/json/1", 415, {"content": b"x", "headers": {"content-type": "image/png"}}),
        ("POST", "/json/1", 422, {"json": {}}),
        ("POST", "/json/x", 422, {"json": {"x": 1}}),
        ("POST", "/json/1", 500, {"json": {"x": 1}, "headers": {"fail": "1"}}),
        ("POST", "/json/1", 503, {"json": {"x": 1}, "draining": True}),
        ("POST", "/json/1", 504, {"json": {"x": 1}, "headers": {"wait": "1"}}),
        ("GET", "/number/1", 200, {}),
        ("GET", "/number/x", 404, {}),
        ("GET", "/number/007", 422, {}),
        ("GET", "/number/1?q=%ff", 400, {}),
        ("POST", "/raw", 200, {"content": b"\xff"}),
        ("POST", "/raw", 413, {"content": b" " * 2000}),
        ("POST", "/text", 200, {"content": b"a"}),
        ("POST", "/text", 400, {"content": b"\xff"}),
        ("GET", "/events", 200, {}),
        ("GET", "/plain", 200, {}),
        ("GET", "/plain?q=%ff", 400, {}),
    ],
)
@pytest.mark.usefixtures("log")
async def test_what_is_answered_is_what_is_described(
    write_project, desk, method: str, path: str, status: int, request_: dict[str, Any]
):
    root = write_project(**{"functions/app.py": HEADER + ROUTES})
    project = load_project(root, {"http__auth": "public"})
    request_ = dict(request_)
    scopes = request_.pop("key", ("invoke",))
    headers = request_.pop("headers", {})
    if scopes is not None:
        headers = headers | bearer(key_in(desk, *scopes))
    role = HttpRole(project, desk=desk)
    role.core.draining = request_.pop("draining", False)
    async with client_on(role) as client:
        answer = await client.request(method, path, headers=headers, **request_)
    role.invoker.threads.close()
    assert answer.status_code == status
    document = describe(project.registry, project.settings.http, "1")
    (item,) = [i for p, i in document["paths"].items() if p.split("/")[1] == re.split(r"[/?]", path)[1]]
    response = _resolved(document, item[method.lower()]["responses"][str(status)])
    assert answer.headers["content-type"] in response["content"]
    assert "X-Run-Id" in response["headers"]
    assert "x-run-id" in answer.headers


def _resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    for part in node["$ref"].removeprefix("#/").split("/"):
        document = document[part]
    return document


@pytest.mark.parametrize(
    ("path", "method", "errors"),
    [
        ("/json/{n}", "post", {"400", "401", "403", "404", "408", "413", "415", "422", "500", "503", "504"}),
        ("/number/{n}", "get", {"400", "404", "422", "500", "503", "504"}),
        ("/raw", "post", {"408", "413", "500", "503", "504"}),
        ("/text", "post", {"400", "408", "413", "500", "503", "504"}),
        ("/events", "get", {"500", "503"}),
        ("/plain", "get", {"400", "500", "503", "504"}),
    ],
)
def test_no_error_is_described_that_cannot_happen(described, path: str, method: str, errors: set[str]):
    responses = described(ROUTES)["paths"][path][method]["responses"]
    assert {status for status in responses if status[0] in "45"} == errors
    assert "default" in responses


async def test_the_problem_of_a_wrong_value_is_as_described(samples: Project, log):
    document = describe(samples.registry, samples.settings.http, "1")
    async with client_of(samples) as client:
        problem = (await client.get("/needs?a=x")).json()
    schemas = document["components"]["schemas"]
    assert set(schemas["fnrun.Problem"]["properties"]) | {"errors"} == set(problem)
    fault = schemas["fnrun.Unfit"]["properties"]["errors"]["items"]
    assert all(set(one) == set(fault["required"]) for one in problem["errors"])
    assert all(one["in"] in fault["properties"]["in"]["enum"] for one in problem["errors"])


def test_calls_that_may_have_a_key_say_so(described):
    document = described("""
    from runtime import fn

    @http("/x", methods=["GET", "POST"])
    @fn(idempotent=lambda n: n)
    async def x(n: int) -> int: ...

    @http.post("/own")
    async def own(idempotency_key: Annotated[str, Header]) -> int: ...

    @http.post("/numbers")
    async def numbers() -> AsyncIterator[int]:
        yield 1
    """)
    names = {
        (path, method): [one["name"].lower() for one in operation["parameters"] if one["in"] == "header"]
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert names == {
        ("/x", "get"): [],
        ("/x", "post"): ["idempotency-key"],
        ("/own", "post"): ["idempotency-key"],
        ("/numbers", "post"): [],
    }
    assert {"409", "410"} <= document["paths"]["/x"]["get"]["responses"].keys()
    assert not {"409", "410"} & document["paths"]["/own"]["post"]["responses"].keys()
    assert "Retry-After" in document["components"]["responses"]["Problem409"]["headers"]


def test_functions_with_limits_say_that_they_may_refuse_a_call(described):
    document = described("""
    from runtime import Breaker, fn

    @http.get("/many")
    @fn(concurrency=2)
    async def many() -> int: ...

    @http.get("/often")
    @fn(rate="3/m")
    async def often() -> int: ...

    @http.get("/shaky")
    @fn(key=lambda: 1, breaker=Breaker())
    async def shaky() -> int: ...
    """)
    assert {path: "429" in item["get"]["responses"] for path, item in document["paths"].items()} == {
        "/many": True,
        "/often": True,
        "/shaky": False,
    }
    assert "Retry-After" in document["components"]["responses"]["Problem429"]["headers"]
