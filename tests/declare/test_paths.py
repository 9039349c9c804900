import re
from contextlib import suppress
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.base.errors import DeclarationError
from runtime.declare.paths import CONVERTERS, Segment, check_path, parse_path, path_names, shape_of


def test_a_pattern_is_literals_and_parameters():
    assert parse_path("/customers/{customer}/orders/{id:int}/{rest:path}") == (
        Segment("customers"),
        Segment("", "customer", "str"),
        Segment("orders"),
        Segment("", "id", "int"),
        Segment("", "rest", "path"),
    )


@pytest.mark.parametrize(
    ("path", "texts"), [("/", [""]), ("/a", ["a"]), ("/a/", ["a", ""]), ("/a//b", ["a", "", "b"]), ("/é/_", ["é", "_"])]
)
def test_slashes_count(path, texts):
    assert [segment.text for segment in parse_path(path)] == texts


def test_the_names_in_a_pattern_and_their_converters():
    assert path_names("/x/{a}/{b:uuid}") == {"a": "str", "b": "uuid"}
    assert path_names("/x") == {}


def test_routes_that_differ_only_in_names_have_one_shape():
    assert shape_of("/x/{a}") == shape_of("/x/{b}") == shape_of("/x/{c:str}")
    assert len({shape_of(path) for path in ("/x/{a}", "/x/{a:int}", "/x/a", "/x/{a}/", "/x/{a:path}")}) == 5


@pytest.mark.parametrize("path", ["/", "/{a}", "/{p:path}", "/_a", "/x/_", "/a-b.c~d"])
def test_a_route_an_author_may_have(path):
    check_path(path)


@pytest.mark.parametrize("path", ["/_", "/_/", "/_/health", "/_/{name}"])
def test_the_reserved_prefix_is_refused(path):
    with pytest.raises(DeclarationError, match=f"^@http {re.escape(path)}: paths under /_/ are the runtime's own"):
        check_path(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/{a}/{a}", "the parameter {a} stands twice"),
        ("/{a:path}/x", "a {name:path} parameter takes all that follows; put it last"),
        ("/x{a}", "'x{a}': a parameter fills a whole segment, \"/{name}/\" for instance"),
        ("/{a}x", "'{a}x': a parameter fills a whole segment"),
        ("/{a}-{b}", "'{a}-{b}': a parameter fills a whole segment"),
        ("/{a", "'{a': a parameter fills a whole segment"),
        ("/a}", "'a}': a parameter fills a whole segment"),
        ("/{}", "'{}': '' is not the name of a parameter"),
        ("/{a b}", "'{a b}': 'a b' is not the name of a parameter"),
        ("/{1}", "'{1}': '1' is not the name of a parameter"),
        ("/{a:ints}", "'{a:ints}': unknown converter 'ints'; did you mean \"int\"?"),
        ("/{a:zzz}", "'{a:zzz}': unknown converter 'zzz'; there are int, float, uuid, str, path"),
        ("/a b", "'a b' cannot stand in a path; write it decoded, without ? # %"),
        ("/a?b=1", "'a?b=1' cannot stand in a path"),
        ("/a#b", "'a#b' cannot stand in a path"),
        ("/a%20b", "'a%20b' cannot stand in a path"),
        ("/a\x7f", "'a\\x7f' cannot stand in a path"),
        ("/../etc", "'..' cannot stand in a path"),
        ("/.", "'.' cannot stand in a path"),
    ],
)
def test_a_malformed_pattern_names_the_part_and_the_fix(path, message):
    with pytest.raises(DeclarationError) as caught:
        check_path(path)
    assert str(caught.value).startswith(f"@http {path}: {message}")


@given(st.text())
def test_any_text_is_a_pattern_or_a_declaration_error(text):
    with suppress(DeclarationError):
        check_path("/" + text)
        assert not re.search(r"[?#%\s]", text)


@pytest.mark.parametrize(
    ("converter", "good", "bad"),
    [
        ("int", ["0", "007"], ["-1", "1.0", "x", ""]),
        ("float", ["1", "1.5"], ["1.", ".5", "nan", "1e9"]),
        ("uuid", [str(uuid4()), str(uuid4()).upper()], ["1234", "0" * 32]),
        ("str", ["x", "a b"], [""]),
        ("path", ["", "a", "a/b/"], []),
    ],
)
def test_what_a_converter_takes(converter, good, bad):
    pattern, _ = CONVERTERS[converter]
    assert all(re.fullmatch(pattern, text) for text in good)
    assert not any(re.fullmatch(pattern, text) for text in bad)


def test_the_type_a_converter_gives_a_parameter_without_annotation():
    assert {name: kind for name, (_, kind) in CONVERTERS.items()} == {
        "int": int,
        "float": float,
        "uuid": UUID,
        "str": str,
        "path": str,
    }
