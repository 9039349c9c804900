"""Which endpoint a path finds."""

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
