"""The page at /_/docs given documents that ours never is: all that OpenAPI 3.1 allows, and what is wrong."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import SAMPLES
from tests.live_browsers import open_operation, send, watched
from tests.live_servers import Server

pytestmark = pytest.mark.live

RICH: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Rich <b>one</b>", "version": "7", "description": "About all of it."},
    "tags": [{"name": "things", "description": "About things."}],
    "security": [{"sso": ["read"]}],
    "paths": {
        "/things/{id}": {
            "parameters": [
                {"$ref": "#/components/parameters/id"},
                {"name": "page", "in": "query", "schema": {"type": "integer"}, "description": "of the path"},
            ],
            "get": {
                "tags": ["things", "more"],
                "deprecated": True,
                "callbacks": {"later": {"$ref": "#/components/callbacks/later"}},
                "parameters": [
                    {"name": "page", "in": "query", "schema": {"type": ["integer", "null"]}, "description": "my own"},
                    {"name": "ids", "in": "query", "explode": False, "schema": {"type": "array", "items": True}},
                    {"name": "where", "in": "query", "style": "deepObject", "schema": {"type": "object"}},
                    {"name": "filter", "in": "query", "content": {"application/json": {"example": {"a": 1}}}},
                    {"name": "user-agent", "in": "header", "schema": True},
                ],
                "responses": {
                    "200": {
                        "description": "A thing.",
                        "headers": {"x-left": {"$ref": "#/components/headers/left"}},
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}},
                    },
                    "4XX": {"$ref": "#/components/responses/Wrong"},
                    "default": {"$ref": "#/components/responses/Nowhere"},
                },
            },
            "post": {
                "operationId": "things:POST /things/{id}",
                "security": [{}, {"key": []}],
                "requestBody": {"$ref": "#/components/requestBodies/Thing"},
            },
        },
        "/bare": {"delete": {}, "x-note": {"not": "an operation"}},
    },
    "components": {
        "parameters": {
            "id": {"name": "id", "in": "path", "required": True, "schema": {"$ref": "#/components/schemas/Id"}}
        },
        "headers": {"left": {"description": "How many are left.", "schema": {"type": "integer"}}},
        "responses": {
            "Wrong": {
                "description": "Something is wrong.",
                "content": {
                    "application/problem+json": {
                        "schema": False,
                        "examples": {"gone": {"summary": "It is gone", "value": {"status": 410}}},
                    }
                },
            }
        },
        "requestBodies": {
            "Thing": {
                "description": "The thing to keep.",
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/Thing"},
                        "examples": {
                            "small": {"value": {"name": "small"}},
                            "large": {"$ref": "#/components/examples/large"},
                        },
                    },
                    "text/plain": {},
                },
            }
        },
        "examples": {"large": {"summary": "a large one", "value": {"name": "large"}}},
        "schemas": {
            "Id": {"type": "string", "format": "uuid", "x-unknown": 1, "contentEncoding": "odd"},
            "Loop": {"$ref": "#/components/schemas/Loop"},
            "Thing": {
                "type": "object",
                "required": ["name", "next"],
                "properties": {
                    "name": {"const": "one"},
                    "next": {"anyOf": [{"$ref": "#/components/schemas/Thing"}, {"type": "null"}]},
                    "either": {"oneOf": [{"type": "string"}, {"$ref": "#/components/schemas/Pair"}]},
                    "all": {"allOf": [{"$ref": "#/components/schemas/Pair"}, {"properties": {"c": {}}}]},
                    "loop": {"$ref": "#/components/schemas/Loop"},
                    "lost": {"$ref": "https://example.com/schemas/lost.json"},
                    "never": False,
                    "new": {"dependentRequired": {"a": ["b"]}, "type": "integer", "exclusiveMinimum": 3},
                },
                "additionalProperties": {"type": "number"},
            },
            "Pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer", "multipleOf": 5}]},
        },
        "securitySchemes": {"sso": {"type": "oauth2"}, "key": {"type": "http", "scheme": "Bearer"}},
    },
}


def show(page: Page, document: Any, status: int = 200) -> None:
    body = document if isinstance(document, str) else json.dumps(document)
    page.route("**/_/openapi.json", lambda route: route.fulfill(status=status, body=body))
    page.goto("/_/docs")


@pytest.fixture
def rich(browser: Browser, shop_server: Server):
    with watched(browser, shop_server.url) as watch:
        show(watch.page, RICH)
        yield watch.page


def test_all_that_a_document_may_say_is_shown(rich: Page):
    expect(rich.get_by_role("heading", level=1)).to_have_text("Rich <b>one</b> 7")
    assert rich.get_by_role("heading", level=2).all_inner_texts() == ["things", "more", "other"]
    expect(rich.get_by_text("About things.")).to_be_visible()
    fold = open_operation(rich, "GET/things/{id}")
    expect(fold.locator("summary").first).to_contain_text("deprecated")
    expect(fold.locator("summary").first).to_contain_text("sso")
    expect(fold.get_by_text("my own")).to_be_visible()
    expect(fold.get_by_text("of the path")).to_have_count(0)
    expect(fold.get_by_text('contentEncoding "odd"')).to_be_visible()
    answers = fold.locator(".responses")
    expect(answers).to_contain_text("4XX")
    answers.get_by_text("application/problem+json: nothing").click()
    expect(answers.get_by_text("It is gone")).to_be_visible()
    answers.get_by_text("Headers").click()
    expect(answers.get_by_text("How many are left.")).to_be_visible()
    answers.get_by_text("application/json: Thing").click()
    fields = answers.locator(".fields").first
    for words in (
        "↺ as above",
        "string | Pair",
        "lost.json",
        "nothing",
        'dependentRequired {"a":["b"]}',
        "any other name",
    ):
        expect(fields).to_contain_text(words)
    fold.get_by_text("More", exact=True).click()
    expect(fold.get_by_text('"later"')).to_be_visible()


def test_parameters_are_sent_in_their_style(rich: Page):
    fold = open_operation(rich, "GET/things/{id}")
    fold.get_by_label("id", exact=True).fill("a/b?")
    fold.get_by_label("ids").fill("1\n2")
    fold.get_by_label("where").fill('{"a": "x"}')
    assert json.loads(fold.get_by_label("filter").input_value()) == {"a": 1}
    expect(fold.locator(".command")).to_contain_text("/things/a%2Fb%3F?ids=1%2C2&where%5Ba%5D=x&filter=")
    fold.get_by_label("where").fill("no JSON")
    expect(fold.locator(".command")).to_contain_text("# ")
    expect(send(fold)).to_contain_text("This cannot be sent")


def test_examples_are_there_to_choose_from(rich: Page):
    fold = open_operation(rich, "POST/things/{id}")
    expect(fold.locator("summary").first).to_contain_text("key, or none")
    body = fold.get_by_label("Body (application/json)")
    assert json.loads(body.input_value()) == {"name": "small"}
    fold.get_by_label("Example").select_option("a large one")
    assert json.loads(body.input_value()) == {"name": "large"}
    expect(fold.locator(".command")).to_contain_text('"large"')
    fold.get_by_label("Content type").select_option("text/plain")
    expect(fold.get_by_label("Body (text/plain)")).to_have_value("")


def test_an_operation_that_says_nothing_can_be_tried(rich: Page):
    fold = open_operation(rich, "DELETE/bare")
    expect(fold.get_by_text("It takes nothing.")).to_be_visible()
    expect(fold.locator(".command")).to_contain_text("curl -X DELETE ")
    assert rich.url.endswith("#delete%20%2Fbare")


@pytest.mark.parametrize(
    ("document", "status", "said"),
    [
        ({"openapi": "3.1.0", "info": {"title": "None", "version": "1"}}, 200, "No function has a route yet"),
        (
            {"detail": "the server is shutting down"},
            503,
            "The document cannot be had: 503, the server is shutting down",
        ),
        ("no JSON", 200, "The document cannot be shown: "),
        ({"paths": {"/x": {"get": {"tags": 5}}}}, 200, "The document cannot be shown: "),
    ],
)
def test_a_document_without_operations_or_in_pieces_is_told(browser, shop_server, document, status, said):
    with watched(browser, shop_server.url) as watch:
        show(watch.page, document, status)
        expect(watch.page.get_by_text(said).first).to_be_visible()


def test_every_operation_of_the_samples_is_shown_whole(browser: Browser, tmp_path: Path, start):
    root = shutil.copytree(SAMPLES, tmp_path / "samples")
    server = start(root, "serve", environ={"FNRUN_HTTP__AUTH": "public", "FNRUN_HTTP__BIND": "127.0.0.1:0"})
    with watched(browser, server.url) as watch:
        watch.page.goto("/_/docs")
        expect(watch.page.get_by_role("heading", name="bind")).to_be_visible()
        watch.page.evaluate("document.querySelectorAll('details.op').forEach(one => one.open = true)")
        count = watch.page.locator("details.op").count()
        assert count > 50
        expect(watch.page.get_by_role("button", name="Send")).to_have_count(count)
        for _ in range(4):  # what is in folds, and in theirs
            watch.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert watch.page.get_by_text("cannot be shown").count() == 0
