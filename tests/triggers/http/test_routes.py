"""Which endpoint a path finds."""

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.base.errors import InputError
from runtime.triggers.http.routes import RouteTable


def table(*paths: str) -> RouteTable[str]:
    found: RouteTable[str] = RouteTable()
    for path in paths:
        found.add("GET", path, path)
    return found


def find(routes: RouteTable[str], path: str) -> tuple[str, dict[str, str]] | None:
    match = routes.find(path, "GET")
    return None if match is None else (match.endpoints["GET"], match.params("GET"))


ROUTES = table(
    "/", "/a", "/a/b", "/{x}", "/a/{x}", "/a/{x:int}", "/a/{x}/c", "/{x}/b", "/f/{rest:path}", "/a/{x:int}/d"
)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", ("/", {})),
        ("/a", ("/a", {})),
        ("/%61", ("/a", {})),
        ("/z", ("/{x}", {"x": "z"})),
        ("/a/b", ("/a/b", {})),
        ("/a/%62", ("/a/b", {})),
        ("/a/7", ("/a/{x:int}", {"x": "7"})),
        ("/a/x", ("/a/{x}", {"x": "x"})),
        ("/a/7/c", ("/a/{x}/c", {"x": "7"})),
        ("/a/7/d", ("/a/{x:int}/d", {"x": "7"})),
        ("/a/x/d", None),
        ("/z/b", ("/{x}/b", {"x": "z"})),
        ("/z/c", None),
        ("/f/", ("/f/{rest:path}", {"rest": ""})),
        ("/f/a/b%2Fc/", ("/f/{rest:path}", {"rest": "a/b/c/"})),
        ("/a%2Fb", ("/{x}", {"x": "a/b"})),
        ("/a/", None),
        ("//", None),
    ],
)
def test_a_path_finds_the_most_exact_route(path: str, found: object):
    assert find(ROUTES, path) == found


def test_methods_of_one_shape_keep_their_own_names():
    routes: RouteTable[str] = RouteTable()
    routes.add("GET", "/o/{id}", "read")
    routes.add("PUT", "/o/{key}", "write")
    match = routes.find("/o/1", "GET")
    assert match is not None
    assert (match.params("GET"), match.params("PUT")) == ({"id": "1"}, {"key": "1"})


@pytest.mark.parametrize(
    "path", ["", "a", "*", "http://x/", "/./a", "/a/..", "/%2e", "/a%00", "/a%0a", "/%c3", "/a\\b", "/%5c"]
)
def test_a_malformed_path_is_refused(path: str):
    with pytest.raises(InputError) as caught:
        ROUTES.find(path, "GET")
    assert caught.value.status == 400


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_any_path_finds_something_nothing_or_is_refused(text: str):
    with suppress(InputError):
        ROUTES.find("/" + text, "GET")


def test_reserved_routes_are_made_when_the_first_is_asked_for():
    made: list[str] = []

    def reserved() -> Iterator[tuple[str, str, str]]:
        made.append("")
        yield "GET", "/_/runs/{id}", "run"

    routes: RouteTable[str] = RouteTable(reserved)
    routes.add("GET", "/_/health", "health")
    routes.add("GET", "/{name}", "one")
    assert (find(routes, "/_/health"), find(routes, "/a"), find(routes, "/a/_"), made) == (
        ("health", {}),
        ("one", {"name": "a"}),
        None,
        [],
    )
    assert find(routes, "/%5F/runs/7") == ("run", {"id": "7"})
    assert find(routes, "/_/runs/8") == ("run", {"id": "8"})
    assert find(routes, "/_/health") == ("health", {})
    assert len(made) == 1


def test_reserved_routes_that_cannot_be_made_are_tried_again():
    tries = iter([OSError("too many open files"), OSError("too many open files"), None])

    def reserved() -> Iterator[tuple[str, str, str]]:
        if (fault := next(tries)) is not None:
            raise fault
        yield "GET", "/_/runs", "runs"

    routes: RouteTable[str] = RouteTable(reserved)
    assert routes.at("/_/runs", "GET") is None, "who looks before the answer is begun lets that say it"
    with pytest.raises(OSError, match="too many"):
        find(routes, "/_/runs")
    assert find(routes, "/_/runs") == ("runs", {})
