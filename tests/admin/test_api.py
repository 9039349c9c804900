"""The runtime's own endpoints."""

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from runtime.admin import api
from runtime.invoke.binding import PayloadPlan
from runtime.projects import load_project
from runtime.roles import HttpRole
from tests.conftest import ROOT, client_of, client_on


async def test_health_and_ready_are_open(samples, log):
    async with client_of(load_project(ROOT)) as client:
        health = await client.get("/_/health")
        assert health.json() == {"status": "ok", "version": "0.1.0"}
        assert (await client.get("/_/ready")).json() == {"status": "ready"}


async def test_draining_refuses_functions_and_is_not_ready(samples, log):
    role = HttpRole(samples)
    role.core.draining = True
    async with client_on(role) as client:
        for path in ("/_/ready", "/open"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert (await client.get("/_/health")).status_code == 200


async def test_the_openapi_document_is_valid(http: httpx.AsyncClient):
    document = (await http.get("/_/openapi.json")).json()
    OpenAPIV31SpecValidator(document).validate()
    operation = document["paths"]["/orders/{customer}"]["post"]
    assert operation["operationId"] == "bind.mixed"
    *own, idempotency_key = operation["parameters"]
    assert (idempotency_key["name"], idempotency_key["required"]) == ("Idempotency-Key", False)
    assert own == [
        {
            "name": "customer",
            "in": "path",
            "required": True,
            "schema": {
                "type": "string",
                "minLength": 1,
                "pattern": r"^[^\x00-\x1f\x7f\\]*$",
                "not": {"enum": [".", ".."]},
            },
        },
        {"name": "notify", "in": "query", "required": False, "schema": {"type": "boolean", "default": False}},
    ]
    assert operation["requestBody"] == {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Order"}},
            "application/x-www-form-urlencoded": {"schema": {"$ref": "#/components/schemas/Order"}},
        },
    }
    assert set(document["components"]["schemas"]) >= {"Order", "Point", "fnrun.Problem"}
    assert set(document["paths"]["/methods"]) == {"get", "post", "delete"}
    assert document["paths"]["/untyped/{number}/{text}"]["get"]["parameters"][0]["schema"]["type"] == "integer"
    assert document["paths"]["/open"]["get"]["security"] == []
    upload = document["paths"]["/form/upload"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(upload["required"]) == {"title", "file"}
    assert upload["properties"]["file"] == {"type": "string", "contentMediaType": "application/octet-stream"}
    assert set(document["paths"]["/form"]["post"]["requestBody"]["content"]) == {
        "application/json",
        "application/x-www-form-urlencoded",
    }
    assert set(document["paths"]["/events"]["get"]["responses"]["200"]["content"]) == {
        "text/event-stream; charset=utf-8"
    }
    assert document["paths"]["/locked"]["get"]["security"] == [{"key": []}]


async def test_the_examples_have_a_valid_document(log):
    async with client_of(load_project(ROOT, {"http__auth": "public"})) as client:
        document = (await client.get("/_/openapi.json")).json()
    OpenAPIV31SpecValidator(document).validate()
    assert document["paths"]["/sum"]["post"]["summary"] == "Add x and y."
    assert not [path for path in document["paths"] if path.startswith("/_/")]


@pytest.fixture
async def local(samples, log):
    async with client_of(samples, open_locally=True) as client:
        yield client


async def test_a_function_is_called_by_its_name(local: httpx.AsyncClient):
    answer = await local.post("/_/functions/doors.job/invoke", json={"n": 4})
    assert (answer.status_code, answer.json()) == (200, 8)
    assert (await local.post("/_/functions/answer.plain/invoke")).text == "héllo"
    assert (await local.post("/_/functions/answer.stream_text/invoke")).text == "ab"
    assert (await local.post("/_/functions/bind.context/invoke")).json()["trigger"] == "api"


async def test_a_call_by_name_is_checked_like_any_other(local: httpx.AsyncClient):
    wrong = await local.post("/_/functions/doors.job/invoke", json={"m": 4})
    assert (wrong.status_code, wrong.json()["errors"][0]["detail"]) == (422, "unknown argument")
    needs = await local.post("/_/functions/bind.request/invoke")
    assert (needs.status_code, "cannot supply parameter request" in needs.json()["detail"]) == (422, True)
    assert (await local.post("/_/functions/nobody/invoke")).status_code == 404


async def test_a_call_by_name_wants_a_key_even_where_functions_are_public(http: httpx.AsyncClient):
    assert (await http.post("/_/functions/doors.job/invoke", json={"n": 4})).status_code == 401


async def test_what_invokes_a_function_by_name_is_made_when_somebody_does(write_project, monkeypatch, log):
    made = []
    monkeypatch.setattr(api, "PayloadPlan", lambda function: made.append(function.name) or PayloadPlan(function))
    function = 'from runtime import http\n@http.get("/add")\ndef add(x: int): return x + 1\n'
    role = HttpRole(load_project(write_project(**{"functions/app.py": function})), open_locally=True)
    async with client_on(role) as client:
        assert (await client.get("/_/functions")).status_code == 200
        assert made == [], "the first request below /_/ would wait for as long as there are functions"
        for x in (1, 2):
            assert (await client.post("/_/functions/app.add/invoke", json={"x": x})).json() == x + 1
    assert made == ["app.add"]
