"""Forms, uploads, and compressed bodies."""

import gzip
import zlib

import anyio
import httpx
import pytest

from runtime.declare.loader import load
from runtime.projects import Project
from runtime.roles import HttpRole
from runtime.triggers.http.wire.requests import Limits
from tests.conftest import client_on

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("how", ["urlencoded", "multipart"])
async def test_a_form_is_read_as_json_would_be_with_text_as_the_types_say(http: httpx.AsyncClient, how: str):
    fields = {"name": "Zoë & co", "age": "7", "tags": ["a", "b"]}
    sent = {"data": fields} if how == "urlencoded" else {"data": fields, "files": {"ignored": b""}}
    answer = await http.post("/form", **sent)
    assert answer.json() == {"name": "Zoë & co", "age": 7, "ratio": 0.5, "tags": ["a", "b"]}
    person = await http.post("/form/person", **sent)
    assert person.json() == {"name": "Zoë & co", "age": 7, "tags": ["a", "b"]}


async def test_of_several_values_the_last_counts_where_one_is_wanted(http: httpx.AsyncClient):
    answer = await http.post("/form", content="name=a&name=b&tags=x&extra=1", headers={"content-type": FORM})
    assert answer.json() == {"name": "b", "age": 1, "ratio": 0.5, "tags": ["x"]}


@pytest.mark.parametrize(
    ("path", "content", "errors"),
    [
        ("/form", "age=x&ratio=nan", [("name", "required, but missing"), ("age", "Expected `int`, got `str`")]),
        ("/form", "name=a&ratio=inf", [("ratio", "Expected a finite number")]),
        ("/form/person", "name=a&age=x", [("person", "Expected `int`, got `str`")]),
        ("/form/measured", "height=nan", [("measured", "Expected a finite number")]),
        ("/form/measured", "weights=1&weights=inf", [("measured", "Expected a finite number")]),
    ],
)
async def test_a_form_that_does_not_fit_is_422(http: httpx.AsyncClient, path: str, content: str, errors: list):
    answer = await http.post(path, content=content, headers={"content-type": FORM})
    assert answer.status_code == 422
    assert [(e["name"], e["detail"]) for e in answer.json()["errors"]] == errors


async def test_a_form_that_is_not_utf8_is_400(http: httpx.AsyncClient):
    answer = await http.post("/form", content="name=%ff", headers={"content-type": FORM})
    assert (answer.status_code, answer.json()["detail"]) == (400, "the form is not percent-encoded UTF-8")


async def test_files_come_with_their_names_and_long_ones_are_on_disk(http: httpx.AsyncClient):
    files = [("file", ("a.bin", b"x" * 2_000_000, "image/x")), ("more", ("b", b"1")), ("more", ("c", b"2"))]
    answer = await http.post("/form/upload", data={"title": "t"}, files=files)
    expected = {
        "title": "t",
        "name": "a.bin",
        "type": "image/x",
        "size": 2_000_000,
        "on_disk": True,
        "more": ["b", "c"],
    }
    assert answer.json() == expected
    small = await http.post("/form/upload", data={"title": "t"}, files={"file": ("s", b"s")})
    assert (small.json()["on_disk"], small.json()["more"]) == (False, [])


async def test_an_optional_file_may_be_left_out(http: httpx.AsyncClient):
    assert (await http.post("/form/optional", files={"file": b"content"})).json() == "content"
    assert (await http.post("/form/optional", files={"other": b"content"})).json() == "none"


@pytest.mark.parametrize(
    ("data", "files", "errors"),
    [
        ({}, {"x": b""}, [("file", "required, but missing"), ("title", "required, but missing")]),
        ({"title": "t", "file": "text"}, {"x": b""}, [("file", "Expected a file, got text")]),
        ({}, {"file": b"", "title": b"a file"}, [("title", "Expected `str`, got `UploadFile`")]),
    ],
)
async def test_a_file_that_is_missing_or_none_is_named(http: httpx.AsyncClient, data: dict, files: dict, errors: list):
    answer = await http.post("/form/upload", data=data, files=files)
    assert answer.status_code == 422
    assert [(e["name"], e["detail"]) for e in answer.json()["errors"]] == errors


async def test_a_form_past_the_limit_is_413(http: httpx.AsyncClient):
    answer = await http.post("/form/upload", data={"title": "t"}, files={"file": b"x" * 5_000_001})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("kind", "content", "detail"),
    [
        ("multipart/form-data", b"x", "the multipart form cannot be read: Missing boundary in multipart."),
        ("multipart/form-data; boundary=b", b"no b", "the multipart form cannot be read: Invalid multipart data."),
        ("multipart/form-data; boundary=b", b"--b\r\ncontent-disposition: form-data\r\n\r\nx\r\n--b--\r\n",
         'the multipart form cannot be read: The Content-Disposition header field "name" must be provided.'),
        ("multipart/form-data; boundary=b",
         b"".join(b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n\r\n' for _ in range(1001)) + b"--b--\r\n",
         "the multipart form cannot be read: Too many fields. Maximum number of fields is 1000."),
    ],
)  # fmt: skip
async def test_a_malformed_multipart_is_400(http: httpx.AsyncClient, kind: str, content: bytes, detail: str):
    answer = await http.post("/form", content=content, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["detail"]) == (400, detail)


async def test_an_upload_that_does_not_say_what_it_is(http: httpx.AsyncClient):
    nothing = await http.post("/form/upload")
    assert (nothing.status_code, [e["name"] for e in nothing.json()["errors"]]) == (422, ["file", "title"])
    assert (await http.post("/form/optional")).json() == "none"
    something = await http.post("/form/upload", content=b"x")
    assert (something.status_code, "send multipart/form-data" in something.json()["detail"]) == (415, True)


async def test_files_come_by_multipart_only(http: httpx.AsyncClient):
    for kind in ("application/json", FORM):
        answer = await http.post("/form/upload", content=b"{}", headers={"content-type": kind})
        assert (answer.status_code, "send multipart/form-data" in answer.json()["detail"]) == (415, True)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)],
)
async def test_a_compressed_body_is_inflated(http: httpx.AsyncClient, encoding: str, pack):
    answer = await http.post("/struct", content=pack(b'{"sku": "a"}'), headers={"content-encoding": encoding})
    assert answer.json() == {"sku": "a", "qty": 1}
    headers = {"content-encoding": encoding, "content-type": FORM}
    assert (await http.post("/form", content=pack(b"name=a"), headers=headers)).json()["name"] == "a"


async def test_a_bomb_is_not_inflated_past_the_limit(http: httpx.AsyncClient):
    bomb = gzip.compress(b"[" + b" " * 50_000_000 + b"]")
    assert len(bomb) < 100_000
    answer = await http.post("/whole", content=bomb, headers={"content-encoding": "gzip"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "content",
    [b"plain", gzip.compress(b"{}")[:-4], gzip.compress(b"{}") + b"more", b""],
    ids=["plain", "cut", "more", "nothing"],
)
async def test_what_is_not_one_whole_stream_is_400(http: httpx.AsyncClient, content: bytes):
    answer = await http.post("/struct", content=content, headers={"content-encoding": "gzip"})
    assert answer.status_code == 400


async def test_a_raw_body_stays_as_it_came(http: httpx.AsyncClient):
    packed = gzip.compress(b"{}")
    assert (await http.post("/raw", content=packed, headers={"content-encoding": "gzip"})).content == packed


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("@http.get('/x')\ndef f(file: UploadFile): ...", "parameter file is a file of a form, but a GET has no body"),
        ("@http.post('/x')\ndef f(a: dict, file: UploadFile): ...", "but a is read from the body, too"),
        ("@queue('q')\ndef f(file: UploadFile): ...", "@queue cannot supply parameter file (file); give it a default"),
    ],
)
def test_a_file_is_had_from_a_form_alone(write_project, source: str, message: str):
    root = write_project(**{"functions/f.py": f"from runtime import UploadFile, http, queue\n{source}\n"})
    (failure,) = load(root).failures
    assert message in failure.message


@pytest.mark.asgi  # httpx does not read while it sends; tests/live/test_wire_limits.py does
async def test_a_client_that_stalls_in_its_body_is_answered_408(samples: Project, log, monkeypatch):
    monkeypatch.setattr("runtime.triggers.http.wire.link.DISCARD_SECONDS", 0.05)

    async def stalling():
        yield b'{"sku":'
        await anyio.sleep(60)

    role = HttpRole(samples)
    role.shell.limits = Limits(body_silence_seconds=0.05)
    async with client_on(role) as http:
        for path in ("/struct", "/upload"):
            with anyio.fail_after(20):
                answer = await http.post(path, content=stalling())
            assert (answer.status_code, answer.json()["detail"]) == (408, "the body stopped coming")
    role.invoker.threads.close()
