"""Who may call what."""

from pathlib import Path

import httpx
import pytest

from runtime.base.keys import make_key
from runtime.ledger.access.keys import add_key
from runtime.projects import load_project
from tests.conftest import client_of
from tests.keys import bearer, key_in

FILES = {
    "functions/doors.py": """
        from runtime import http

        @http.get("/open", auth="public")
        async def open_door() -> str:
            return "open"

        @http.get("/locked")
        async def locked() -> str:
            return "locked"

        @http.post("/post")
        async def post() -> str:
            return "posted"
        """
}


@pytest.fixture
def root(write_project) -> Path:
    return write_project(**FILES)


@pytest.fixture
async def client(root: Path, desk, log):
    async with client_of(load_project(root), desk=desk) as client:
        yield client


async def test_without_a_word_a_route_wants_a_key(client: httpx.AsyncClient):
    answer = await client.get("/locked")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert (await client.get("/open")).status_code == 200


async def test_the_setting_opens_what_does_not_say_otherwise(root: Path):
    async with client_of(load_project(root, {"http__auth": "public"})) as client:
        assert (await client.get("/locked")).status_code == 200


async def test_a_key_opens_what_its_scopes_name(client: httpx.AsyncClient, desk):
    some, reader, admin = (key_in(desk, scope) for scope in ("invoke:doors.loc*", "read", "admin"))
    assert (await client.get("/locked", headers=bearer(some))).json() == "locked"
    assert (await client.get("/locked", headers={"authorization": f"bEARER   {some}"})).status_code == 200
    assert (await client.post("/post", headers=bearer(some))).status_code == 403
    assert (await client.get("/locked", headers=bearer(reader))).status_code == 403
    assert (await client.get("/_/openapi.json", headers=bearer(some))).status_code == 403
    assert (await client.get("/_/openapi.json", headers=bearer(reader))).status_code == 200
    assert (await client.post("/post", headers=bearer(admin))).status_code == 200


@pytest.mark.parametrize("change", ["x", "", "first", "last"])
async def test_a_key_that_is_off_by_one_character_is_refused(client: httpx.AsyncClient, desk, change: str):
    key, token = make_key("k", ("admin",))
    assert desk.ask_sync(add_key(desk.ledger, "new", key))
    secret = token.rpartition("_")[2] or token
    wrong = {
        "x": "x",
        "": f"fnrun_{key.id}_",
        "first": token.replace(secret[0], "A" if secret[0] != "A" else "B", 1),
        "last": token[:-1] + ("A" if token[-1] != "A" else "B"),
    }[change]
    answer = await client.get("/locked", headers=bearer(wrong))
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')


@pytest.mark.asgi  # a client of HTTP/1.1 sends no spaces after a value
@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer ", "Bearer \u00ff", "token"])
async def test_other_credentials_are_401(client: httpx.AsyncClient, header: str):
    assert (await client.get("/locked", headers=[(b"authorization", header.encode("latin-1"))])).status_code == 401


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:80", "app.localhost", "LOCALHOST"])
async def test_dev_is_open_to_local_names(root: Path, host: str):
    async with client_of(load_project(root), open_locally=True) as client:
        assert (await client.get("/locked", headers={"host": host})).status_code == 200
        own = {"host": host, "origin": f"http://{host}"}
        assert (await client.post("/post", headers=own)).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "[::1", "127.0.0.1.evil.example:80"])
async def test_dev_refuses_other_names(root: Path, host: str, way: str):
    async with client_of(load_project(root), open_locally=True) as client:
        status = (await client.get("/open", headers={"host": host})).status_code
    assert status == 403 or (way != "asgi" and status == 400)  # no host at all is refused before it is judged


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999", "http://[::1"])
async def test_dev_refuses_posts_from_other_pages(root: Path, origin: str):
    async with client_of(load_project(root), open_locally=True) as client:
        assert (await client.post("/post", headers={"origin": origin})).status_code == 403
        assert (await client.get("/locked", headers={"origin": origin})).status_code == 200
