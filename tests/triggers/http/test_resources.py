"""Resources over HTTP: handlers get them, callers can neither send nor see them."""

import pytest

from runtime.projects import load_project
from tests.conftest import client_of

FILES = {
    "functions/_lifespan.py": """
        from collections.abc import Iterator
        import msgspec
        from runtime import resource

        class Settings(msgspec.Struct):
            name: str

        @resource
        def settings() -> Iterator[Settings]:
            yield Settings("real")
        """,
    "functions/app.py": """
        from functions._lifespan import Settings
        from runtime import INJECTED, Context, http

        @http.get("/get")
        async def get(config: Settings, x: int = 1) -> dict:
            return {"name": config.name, "x": x}

        @http.post("/post")
        def post(settings, order: dict) -> dict:
            return {"name": settings.name, "order": order}

        @http.post("/field")
        async def field(x: int, config: Settings = INJECTED) -> dict:
            return {"name": config.name, "x": x}

        @http.get("/stream")
        async def stream(config: Settings):
            yield config.name

        @http.get("/context")
        def context(ctx: Context) -> str:
            return ctx.resources.settings.name
        """,
}
FAKE = {"name": "fake"}


@pytest.fixture
def project(write_project):
    project = load_project(write_project(**FILES), {"http__auth": "public"})
    assert project.registry.failures == ()
    return project


@pytest.fixture
async def http(project, log):
    async with client_of(project) as client:
        yield client


async def test_a_handler_is_given_one_whatever_its_method(http):
    assert (await http.get("/get?x=3")).json() == {"name": "real", "x": 3}
    assert (await http.post("/post", json={"a": 1})).json() == {"name": "real", "order": {"a": 1}}
    assert (await http.post("/field", json={"x": 2})).json() == {"name": "real", "x": 2}
    assert (await http.get("/stream")).text == "real"
    assert (await http.get("/context")).json() == "real"


async def test_a_caller_cannot_send_one(http):
    assert (await http.get('/get?config={"name":"fake"}&settings=fake')).json()["name"] == "real"
    assert (await http.post("/field", json={"x": 2, "config": FAKE})).json()["name"] == "real"
    assert (await http.post("/post", json={"settings": FAKE})).json() == {"name": "real", "order": {"settings": FAKE}}


async def test_by_name_it_is_an_unknown_argument(project):
    async with client_of(project, open_locally=True) as client:
        well = await client.post("/_/functions/app.field/invoke", json={"x": 1})
        sent = await client.post("/_/functions/app.field/invoke", json={"x": 1, "config": FAKE})
    assert (well.status_code, well.json()["name"]) == (200, "real")
    assert (sent.status_code, sent.json()["errors"][0]["detail"]) == (422, "unknown argument")


async def test_the_document_does_not_show_it(http):
    document = (await http.get("/_/openapi.json")).json()
    get = document["paths"]["/get"]["get"]
    field = document["paths"]["/field"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert [one["name"] for one in get["parameters"]] == ["x"]
    assert list(field["properties"]) == ["x"]
    assert "Settings" not in str(document)
    assert "config" not in str(document)
