"""What a call must look like, seen from outside: parameters of every kind, over HTTP."""

import re
import uuid
from typing import Any

import httpx
import pytest

from runtime.invoke import binding, readers

KEY = str(uuid.UUID(int=5))
SCALARS = {
    "count": 1,
    "when": "2030-01-01T02:00:00+02:00",
    "day": "2030-01-01",
    "key": KEY,
    "price": "1.50",
    "colour": "red",
}


@pytest.mark.parametrize(
    ("path", "body", "result"),
    [
        ("/struct", {"sku": "a"}, {"sku": "a", "qty": 1}),
        ("/orders/c1?notify=true", {"sku": "a"}, {"customer": "c1", "order": {"sku": "a", "qty": 1}, "notify": True}),
        ("/two", {"order": {"sku": "a"}, "point": {"x": 1, "y": 2}}, [{"sku": "a", "qty": 1}, {"x": 1, "y": 2}]),
        ("/dataclass", {"x": 1, "y": 2}, {"x": 1, "y": 2}),
        ("/typeddict", {"city": "Bern"}, {"city": "Bern"}),
        ("/dict", {"a": 1}, {"a": 1}),
        ("/mapping", {"a": [1]}, {"a": [1]}),
        ("/list", [{"sku": "a"}, {"sku": "b"}], 2),
        ("/union", {"type": "dog", "name": "Rex"}, "Dog"),
        ("/optional", {"sku": "a"}, {"sku": "a", "qty": 1}),
        ("/whole", [1, 2, 3], 6),
        ("/methods", {"value": 4}, ["POST", 4]),
        (
            "/scalars",
            SCALARS,
            {**SCALARS, "size": "m", "tags": None},
        ),
        (
            "/scalars",
            {**SCALARS, "size": "s", "tags": ["x"]},
            {**SCALARS, "size": "s", "tags": ["x"]},
        ),
    ],
)
async def test_a_json_body_becomes_arguments(http: httpx.AsyncClient, path: str, body: Any, result: Any):
    answer = await http.post(path, json=body)
    assert (answer.status_code, answer.json()) == (200, result)


async def test_no_body_leaves_every_default(http: httpx.AsyncClient):
    assert (await http.post("/methods")).json() == ["POST", 0]
    assert (await http.post("/optional")).status_code == 204
    assert (await http.post("/raw-optional")).content == b"none"


@pytest.mark.parametrize("content", [b"\x00\xff raw", b""])
async def test_a_raw_body_arrives_as_it_came_whatever_its_type(http: httpx.AsyncClient, content: bytes):
    answer = await http.post("/raw", content=content, headers={"content-type": "image/x-odd"})
    assert (answer.content, answer.headers["content-type"]) == (content, "application/octet-stream")


async def test_a_text_body_is_utf8(http: httpx.AsyncClient):
    assert (await http.post("/text", content="é".encode())).json() == "é"
    bad = await http.post("/text", content=b"\xff")
    assert (bad.status_code, bad.json()["detail"]) == (400, "the body is not UTF-8 text")


@pytest.mark.parametrize(
    ("query", "result"),
    [
        ("", {"limit": 10, "tag": [], "only": None, "ratio": 0.5, "page": 1}),
        ("?limit=5&limit=7&tag=a&tag=b%20c&only=1&ratio=1e-1&page-size=3",
         {"limit": 7, "tag": ["a", "b c"], "only": True, "ratio": 0.1, "page": 3}),
        ("?tag=&unknown=1&only=false&&x", {"limit": 10, "tag": [""], "only": False, "ratio": 0.5, "page": 1}),
    ],
)  # fmt: skip
async def test_query_parameters(http: httpx.AsyncClient, query: str, result: Any):
    assert (await http.get(f"/query{query}")).json() == result


async def test_headers_and_cookies(http: httpx.AsyncClient):
    sent = [("x-agent", "me"), ("x-many", "1"), ("X-Many", "2"), ("cookie", 'a=1; session="s 1"; session=later')]
    answer = await http.get("/headers", headers=sent)
    assert answer.json() == {"agent": "me", "many": [1, 2], "session": "s 1"}


async def test_a_header_that_is_a_list_may_be_one_line(http: httpx.AsyncClient):
    answer = await http.get("/headers", headers={"x-agent": "", "x-many": "1, 2,3"})
    assert answer.json() == {"agent": "", "many": [1, 2, 3], "session": None}


async def test_path_parameters_and_their_converters(http: httpx.AsyncClient):
    answer = await http.get(f"/paths/a%20%2Fb/7/{KEY}/1.5/x/y%20z/")
    assert answer.json() == ["a /b", 7, KEY, 1.5, "x/y z/"]
    assert (await http.get("/untyped/7/é")).json() == [7, "é"]
    assert (await http.get(f"/paths/a/x/{KEY}/1.5/x")).status_code == 404
    assert (await http.get("/typed/x")).json()["errors"] == [
        {"in": "path", "name": "number", "path": "$", "detail": "Expected `int`, got `str`"}
    ]


async def test_a_request_is_there_for_who_asks(http: httpx.AsyncClient):
    answer = await http.put(
        "/request/a%20b?q=1&q=2",
        json={"k": [1]},
        headers={"x-test": "t", "cookie": "c=1", "X-Forwarded-For": "9.9.9.9"},
    )
    found = answer.json()
    assert found.pop("run_id") == answer.headers["x-run-id"]
    assert found == {
        "path": "/request/a%20b",
        "params": {"name": "a b"},
        "query": {"q": ["1", "2"]},
        "header": "t",
        "cookies": {"c": "1"},
        "json": {"k": [1]},
        "client": "127.0.0.1",
        "scheme": "http",
    }


async def test_a_handler_that_reads_json_itself_gets_the_same_error(http: httpx.AsyncClient):
    answer = await http.put("/request/a", content=b"{", headers={"x-test": "t"})
    assert (answer.status_code, answer.json()["detail"][:23]) == (400, "the body is not JSON: I")


async def test_a_context_knows_its_invocation(http: httpx.AsyncClient, log):
    answer = await http.get("/context")
    found = answer.json()
    run_id = answer.headers["x-run-id"]
    assert found.pop("deadline").endswith("Z")
    assert found == {
        "run_id": run_id,
        "function": "bind.context",
        "trigger": "http",
        "attempt": 1,
        "cancelled": False,
        "traceparent": f"00-{run_id}-{run_id[16:]}-00",
        "home": "here",
    }
    assert [line["event"] for line in log.entries] == ["a line of the handler's"]


async def test_every_wrong_parameter_is_named_with_its_place(http: httpx.AsyncClient):
    answer = await http.get("/needs?a=x", headers={"x-agent": "u"})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"in": "query", "name": "a", "path": "$", "detail": "Expected `int`, got `str`"},
        {"in": "query", "name": "b", "path": "$", "detail": "required, but missing"},
    ]


@pytest.mark.parametrize(
    ("path", "body", "errors"),
    [
        ("/struct", {"sku": 1}, [("order", "$.sku", "Expected `str`, got `int`")]),
        ("/struct", {"sku": "a", "x": 1}, [("order", "$", "Object contains unknown field `x`")]),
        ("/struct", {"sku": "a", "qty": 0}, [("order", "$.qty", "Expected `int` >= 1")]),
        ("/two", {"order": {"sku": 1}, "point": {"x": "1"}},
         [("order", "$.sku", "Expected `str`, got `int`"), ("point", "$.x", "Expected `int`, got `str`")]),
        ("/two", {}, [("order", "$", "required, but missing"), ("point", "$", "required, but missing")]),
        ("/list", [{"sku": "a"}, {"sku": 2}], [("orders", "$[1].sku", "Expected `str`, got `int`")]),
        ("/union", {"type": "cow"}, [("pet", "$.type", "Invalid value 'cow'")]),
        ("/scalars", {**SCALARS, "colour": "x", "size": "l"},
         [("colour", "$", "Invalid enum value 'x'"), ("size", "$", "Invalid enum value 'l'")]),
    ],
)  # fmt: skip
async def test_a_body_that_does_not_fit_is_422_with_the_path(
    http: httpx.AsyncClient, path: str, body: Any, errors: Any
):
    answer = await http.post(path, json=body)
    assert answer.status_code == 422
    assert [(e["name"], e["path"], e["detail"]) for e in answer.json()["errors"]] == errors
    assert {e["in"] for e in answer.json()["errors"]} == {"body"}


async def test_faults_of_the_query_and_of_the_body_are_told_together(http: httpx.AsyncClient):
    answer = await http.post("/orders/c?notify=maybe", json={"sku": 1})
    assert [(e["in"], e["name"]) for e in answer.json()["errors"]] == [("query", "notify"), ("body", "order")]


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
async def test_a_decimal_in_text_is_finite_too(http: httpx.AsyncClient, value: str):
    assert (await http.get(f"/decimals?d={value}&d=1")).json()["errors"][0]["detail"] == "Expected a finite number"


async def test_a_decimal_may_be_larger_than_any_float(http: httpx.AsyncClient):
    assert (await http.get("/decimals?d=1e400&d=-2e9999")).json() == 2


@pytest.mark.parametrize("body", [b'{"order": 1e400}', b'{"other": [1, -1e400]}'])
async def test_a_number_no_float_can_hold_is_the_callers_fault(http: httpx.AsyncClient, body: bytes):
    answer = await http.post("/two", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "the JSON holds what cannot be read: Number out of range",
    )


@pytest.mark.parametrize(
    ("path", "body"), [("/needs?a=x", None), ("/two", {"json": {}}), ("/two", {"data": {"a": "x"}})]
)
async def test_what_no_parameter_by_itself_is_at_fault_for_is_said_as_msgspec_says_it(
    http: httpx.AsyncClient, path: str, body: Any, monkeypatch: pytest.MonkeyPatch
):
    for module in (binding, readers):
        monkeypatch.setattr(module, "faults_of", lambda *_, **__: [])
    answer = await (http.post(path, **body) if body else http.get(path, headers={"x-agent": "u"}))
    assert (answer.status_code, answer.json().get("errors", [])) == (422, [])
    assert re.match("the input does not fit the function: (Expected|Object missing) .*`", answer.json()["detail"])


async def test_fields_want_one_object(http: httpx.AsyncClient):
    answer = await http.post("/two", json=[1])
    assert (answer.status_code, answer.json()["detail"]) == (422, "the body is one JSON object with order, point")


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", "1e999"])
async def test_text_that_means_no_finite_number_is_refused(http: httpx.AsyncClient, value: str):
    answer = await http.get(f"/query?ratio={value}")
    assert (answer.status_code, answer.json()["errors"][0]["name"]) == (422, "ratio")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"\xff",
        b'{"sku": "\xff"}',
        b'{"sku": NaN}',
        b'{"sku": "a"} {"sku": "b"}',
        b"\xef\xbb\xbf{}",
        b'{"sku": "\\ud800"}',
    ],
)
async def test_what_is_not_json_is_400(http: httpx.AsyncClient, body: bytes):
    answer = await http.post("/struct", content=body)
    assert (answer.status_code, answer.json()["title"]) == (400, "Bad Request")
    assert answer.json()["detail"].startswith("the body is not JSON: ")


@pytest.mark.parametrize("path", ["/mapping", "/struct", "/methods", "/request/x"])
async def test_a_hundred_thousand_levels_are_refused(http: httpx.AsyncClient, path: str):
    body = b'{"sku":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    answer = await http.request("PUT" if "request" in path else "POST", path, content=body, headers={"x-test": "t"})
    assert answer.status_code in (400, 422)
    assert (await http.post("/mapping", content=body)).json()["detail"] == "the JSON is nested too deeply"


async def test_numbers_past_any_range_are_refused(http: httpx.AsyncClient):
    answer = await http.post("/dict", content=b'{"a": 1' + b"0" * 100_000 + b"}")
    assert (answer.status_code, answer.json()["errors"][0]["detail"]) == (422, "Integer value out of range")


async def test_of_duplicate_keys_the_last_counts(http: httpx.AsyncClient):
    assert (await http.post("/dict", content=b'{"a": 1, "a": 2}')).json() == {"a": 2}


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({"content-type": "text/plain"}, "the body is text/plain; this function takes application/json or a form"),
        ({"content-type": "application/json; charset=latin-1"}, "the body is in latin-1; JSON is UTF-8"),
        ({"content-encoding": "br"}, "the body is encoded as br; send it as it is, or as gzip"),
    ],
)
async def test_a_body_of_another_kind_is_415(http: httpx.AsyncClient, headers: dict[str, str], detail: str):
    answer = await http.post("/struct", content=b'{"sku": "a"}', headers=headers)
    assert answer.status_code == 415
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["application/json", "application/JSON; charset=UTF-8", "application/vnd.a+json", ""])
async def test_json_by_any_of_its_names_is_taken(http: httpx.AsyncClient, kind: str):
    headers = {"content-type": kind} if kind else {}
    assert (await http.post("/struct", content=b'{"sku": "a"}', headers=headers)).status_code == 200


async def test_a_query_that_is_not_utf8_is_400(http: httpx.AsyncClient):
    answer = await http.get("/query?tag=%ff")
    assert (answer.status_code, answer.json()["detail"]) == (400, "the query string is not percent-encoded UTF-8")
