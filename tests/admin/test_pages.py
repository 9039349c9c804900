"""The docs page as an answer; what it does in a browser is tried in tests/live."""

import base64
import hashlib
import re

import httpx
import pytest

from runtime.admin.pages import accepts_html
from runtime.projects import load_project
from tests.conftest import ROOT, client_of
from tests.keys import key_in

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
async def locked(write_project, desk, log):
    """A client of a project that asks for keys."""
    root = write_project(**{"functions/one.py": "from runtime import http\n@http.get\ndef one(): ...\n"})
    async with client_of(load_project(root), desk=desk) as client:
        yield client


async def test_the_docs_are_a_page_that_runs_and_styles_itself_alone(http: httpx.AsyncClient):
    answer = await http.get("/_/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy.pop("style-src").split() == hashes_of("style", answer.text)
    assert policy.pop("script-src").split() == hashes_of("script", answer.text)
    assert policy == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def hashes_of(element: str, html: str) -> list[str]:
    texts = re.findall(f"<{element}>(.*?)</{element}>", html, re.DOTALL)
    assert all(len(text) > 1000 for text in texts)
    return [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts]


async def test_the_page_makes_no_markup_of_text_and_names_no_other_host(http: httpx.AsyncClient):
    html = (await http.get("/_/docs")).text
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"):
        assert sink not in html
    assert set(re.findall(r"https?://[\w.]+", html)) <= {"http://www.w3.org", "https://example.com"}


async def test_a_browser_that_has_the_page_is_told_so(http: httpx.AsyncClient):
    first = await http.get("/_/docs")
    assert (first.headers["cache-control"], first.headers["vary"]) == ("private, no-cache", "accept")
    again = await http.get("/_/docs", headers={"if-none-match": f"W/{first.headers['etag']}"})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    head = await http.head("/_/docs")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(first.content)))


async def test_without_a_key_a_browser_gets_the_page_as_a_401(locked: httpx.AsyncClient):
    answer = await locked.get("/_/docs", headers=BROWSER)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("text/html; charset=utf-8", "no-store")
    assert "<form" in answer.text
    assert "content-security-policy" in answer.headers
    assert (await locked.get("/_/openapi.json", headers=BROWSER)).headers["content-type"] == "application/problem+json"


async def test_any_other_client_without_a_key_gets_a_problem(locked: httpx.AsyncClient):
    for accept in ("*/*", "application/json", "text/html;q=0"):
        answer = await locked.get("/_/docs", headers={"accept": accept})
        assert (answer.status_code, answer.json()["title"]) == (401, "Unauthorized")


async def test_a_key_opens_the_page_if_it_may_read(locked: httpx.AsyncClient, desk):
    tokens = [key_in(desk, scope) for scope in ("read", "invoke")]
    for token, status in zip(tokens, (200, 403), strict=True):
        answer = await locked.get("/_/docs", headers={**BROWSER, "authorization": f"Bearer {token}"})
        assert answer.status_code == status
    wrong = await locked.get("/_/docs", headers={**BROWSER, "authorization": "Bearer fnrun_wrong"})
    assert (wrong.status_code, "invalid_token" in wrong.headers["www-authenticate"]) == (401, True)


async def test_dev_asks_for_no_key_and_answers_local_names_only(log):
    async with client_of(load_project(ROOT), open_locally=True) as client:
        assert (await client.get("/_/docs", headers=BROWSER)).status_code == 200
        assert (await client.get("/_/docs", headers={**BROWSER, "host": "evil.example"})).status_code == 403


@pytest.mark.parametrize(
    ("accept", "said"),
    [
        ("text/html", True),
        ("application/json, TEXT/HTML ; q=0.5", True),
        ("text/html; q=0.0", False),
        ("text/html;level=1;q=1", True),
        ("text/*, */*", False),
        ("", False),
    ],
)
def test_who_names_html_wants_a_page(accept, said):
    assert accepts_html(accept) is said
