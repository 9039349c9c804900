import pytest

from runtime.base.errors import UnknownFunction
from runtime.declare.registry import Function, LoadFailure, Registry
from runtime.declare.triggers import Http


def plain(): ...


async def waiting(): ...


def stream():
    """
    Count.

    To one.
    """
    yield 1


async def waiting_stream():
    yield 1


def made(call, **options):
    return Function(name="shop.orders", call=call, file="functions/shop/orders.py", line=12, **options)


@pytest.mark.parametrize(
    ("call", "kind"),
    [(plain, "sync"), (waiting, "async"), (stream, "sync stream"), (waiting_stream, "async stream")],
)
def test_a_function_knows_how_it_runs(call, kind):
    assert made(call).kind == kind


def test_a_function_knows_its_place_and_summary():
    assert made(stream).place == "functions/shop/orders.py:12"
    assert made(stream).summary == "Count."
    assert made(plain).summary == ""


def test_a_route_without_a_path_is_the_name_with_slashes():
    assert made(plain).route(Http(line=1, methods=("GET",))) == "/shop/orders"
    assert made(plain).route(Http(line=1, methods=("GET",), path="/x")) == "/x"


def test_a_failure_says_where_and_why():
    assert str(LoadFailure(file="functions/a.py", line=3, message="no")) == "functions/a.py:3: no"
    assert str(LoadFailure(file="functions.toml", line=None, message="no")) == "functions.toml: no"


def test_a_function_is_found_by_its_name():
    function = made(plain)
    assert Registry(functions={"shop.orders": function}).get("shop.orders") is function


def test_an_unknown_name_hears_what_comes_near():
    registry = Registry(functions={"shop.orders": made(plain)})
    with pytest.raises(UnknownFunction, match=r'^no function "shop.a.a"; did you mean "shop.a"\?$'):
        raise UnknownFunction("shop.a.a", ["shop.a", "shop.a.at"])
    with pytest.raises(UnknownFunction, match=r'^no function "shop.order"; did you mean "shop.orders"\?$'):
        registry.get("shop.order")
