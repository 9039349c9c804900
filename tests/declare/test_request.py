import pytest

from runtime import Problem, Request
from runtime.base.errors import InputError


class Connection:
    """The parts of a body, as they arrive; counts what was taken."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self.left = list(parts)
        self.taken = 0
        self.done = False

    async def next(self):
        if not self.left:
            self.done = True
            return None
        self.taken += 1
        part = self.left.pop(0)
        if isinstance(part, Exception):
            raise part
        return part


def posted(*parts, headers=(), max_body=1_000_000):
    connection = Connection(*parts)
    request = Request("POST", "/x", headers=headers, wire=connection)
    request.max_body = max_body
    return request, connection


def asked(query=b"", headers=()):
    return Request("GET", "/x", query_string=query, headers=headers)


# --- head --------------------------------------------------------------------------------------------------------


def test_a_request_tells_what_came_in():
    request = Request("GET", "/a%20b", query_string=b"q=1", client="10.0.0.1", scheme="https")
    assert (request.method, request.path, request.query_string) == ("GET", "/a%20b", b"q=1")
    assert (request.client, request.scheme, request.path_params) == ("10.0.0.1", "https", {})


def test_repeated_headers_are_joined_and_can_be_had_apart():
    request = asked(headers=[(b"accept", b"a"), (b"x-name", b"caf\xe9"), (b"accept", b"b, c")])
    assert request.header(b"accept") == "a, b, c"
    assert request.header_lines(b"accept") == ["a", "b, c"]
    assert request.headers == {"accept": "a, b, c", "x-name": "café"}


def test_the_items_of_a_header_are_split_at_commas_outside_of_quotes():
    lines = [(b"x", b'a, "b,\\"c" , , d"e,f"g'), (b"x", b"h"), (b"x", b'"never ends, i')]
    assert asked(headers=lines).header_items(b"x") == ["a", '"b,\\"c"', 'd"e,f"g', "h", '"never ends, i']
    assert asked().header_items(b"x") == []
    assert asked(headers=[(b"x", b"")]).header_items(b"x") == []


def test_an_absent_header_is_none():
    assert asked().header(b"accept") is None
    assert asked().header_lines(b"accept") == []
    assert asked().headers == {}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (b"", {}),
        (b"a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
        (b"a=&b", {"a": [""], "b": [""]}),
        (b"q=caf%C3%A9+noir&x%20y=1", {"q": ["café noir"], "x y": ["1"]}),
        (b"a=1;b=2", {"a": ["1;b=2"]}),
    ],
)
def test_a_query_has_every_value(query, found):
    assert asked(query).query == found


@pytest.mark.parametrize("query", [b"q=%ff", b"%c3%28=1", b"q=\xff"])
def test_a_query_that_is_not_utf8_is_bad_input(query):
    with pytest.raises(InputError, match="the query string is not percent-encoded UTF-8") as caught:
        _ = asked(query).query
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], {}),
        ([b"a=1; b=2"], {"a": "1", "b": "2"}),
        ([b"a=1", b"b=2"], {"a": "1", "b": "2"}),  # HTTP/2
        ([b"a=1; a=2"], {"a": "1"}),
        ([b'a="quoted"; b=x=y;c=; lonely; =d'], {"a": "quoted", "b": "x=y", "c": "", "": "d"}),
        ([b"when=Mon, 1 Jan; b=2"], {"when": "Mon, 1 Jan", "b": "2"}),
    ],
)
def test_cookies_are_found_by_name(lines, found):
    assert asked(headers=[(b"cookie", line) for line in lines]).cookies == found


# --- body --------------------------------------------------------------------------------------------------------


async def test_a_request_without_a_body_has_an_empty_one():
    assert await asked().body() == b""
    assert [part async for part in asked().stream()] == [b""]


async def test_a_body_is_read_once_and_kept():
    request, connection = posted(b"ab", b"", b"cd")
    assert connection.taken == 0
    assert await request.body() == b"abcd"
    assert await request.body() == b"abcd"
    assert [part async for part in request.stream()] == [b"abcd"]
    assert connection.taken == 3


async def test_a_body_streams_as_it_arrives():
    request, connection = posted(b"ab", b"cd")
    parts = request.stream()
    assert await anext(parts) == b"ab"
    assert connection.taken == 1
    assert [part async for part in parts] == [b"cd"]


async def test_a_streamed_body_cannot_be_read_again():
    request, _ = posted(b"ab")
    assert [part async for part in request.stream()] == [b"ab"]
    with pytest.raises(RuntimeError, match=r"already streamed; use `await request.body\(\)` to read it more than once"):
        await request.body()


async def test_a_body_at_its_limit_is_fine():
    request, _ = posted(b"abc", b"d", headers=[(b"content-length", b"4")], max_body=4)
    assert await request.body() == b"abcd"


async def test_a_body_longer_than_announced_stops_at_the_limit():
    request, connection = posted(b"abc", b"de", b"fg", max_body=4)
    with pytest.raises(Problem) as caught:
        await request.body()
    assert (caught.value.status, caught.value.title) == (413, "Content Too Large")
    assert caught.value.fields == {"detail": "the body is longer than this route's limit of 4 bytes"}
    assert connection.taken == 2


async def test_a_body_announced_as_too_long_is_not_read():
    request, connection = posted(b"abcde", headers=[(b"content-length", b"5")], max_body=4)
    for _ in range(2):
        with pytest.raises(Problem):
            await request.body()
    assert connection.taken == 0


@pytest.mark.parametrize("length", [b"-1", b"many", b"", b"2, 2"])
async def test_a_strange_content_length_is_left_to_the_server(length):
    request, _ = posted(b"ab", headers=[(b"content-length", length)], max_body=4)
    assert await request.body() == b"ab"


async def test_a_client_that_goes_away_is_an_error_of_the_connection():
    request, _ = posted(b"ab", ConnectionError("gone"))
    with pytest.raises(ConnectionError, match="gone"):
        await request.body()


async def test_json_is_decoded():
    request, _ = posted(b'{"a": ', b"[1, null]}")
    assert await request.json() == {"a": [1, None]}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"{}x", b"NaN", b"'a'", b'"\xff"', b"[" * 100_000], ids=lambda body: repr(body[:6])
)
async def test_a_body_that_is_not_json_is_bad_input(body):
    request, _ = posted(body)
    with pytest.raises(InputError, match=r"^the body is not JSON: ") as caught:
        await request.json()
    assert caught.value.status == 400
