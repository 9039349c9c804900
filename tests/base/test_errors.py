import inspect
import re

import pytest

from runtime.base import errors
from runtime.base.errors import FnrunError, InputError, Problem, UnknownFunction, did_you_mean, phrase


def test_the_tree_in_the_docstring_is_the_tree():
    classes = [found for _, found in inspect.getmembers(errors, inspect.isclass) if found.__module__ == errors.__name__]
    parents, drawn = {0: "FnrunError"}, {}
    for line in errors.__doc__.splitlines():
        if found := re.match(r"    ((?:\|   )*)[|`]-- (\w+)", line):
            depth, name = len(found[1]) // 4, found[2]
            parents[depth + 1], drawn[name] = name, (parents[depth],)
    assert drawn == {
        one.__name__: tuple(base.__name__ for base in one.__bases__ if base in classes)
        for one in classes
        if one is not FnrunError
    }


def test_a_near_name_is_offered():
    assert did_you_mean("ordrs", ["orders", "users"]) == '; did you mean "orders"?'
    assert did_you_mean("zzz", iter(["orders", "users"])) == ""
    assert did_you_mean("zzz", []) == ""


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("ordrs", {"orders", "users"}, 'no function "ordrs"; did you mean "orders"?'),
        ("zzz", {"users", "orders"}, 'no function "zzz"; there are: orders, users'),
        ("zzz", set(), 'no function "zzz"; there are: none'),
    ],
)
def test_an_unknown_function_hears_which_there_are(name, known, message):
    assert str(UnknownFunction(name, known)) == message


def test_an_input_error_names_each_wrong_parameter():
    faults = [
        {"in": "query", "name": "limit", "path": "$", "detail": "Expected `int`, got `str`"},
        {"in": "body", "name": "order", "path": "$.qty", "detail": "Expected `int` >= 1"},
    ]
    error = InputError(422, "the input does not fit the function", faults)
    assert str(error) == (
        "the input does not fit the function; limit: Expected `int`, got `str` (at $); "
        "order: Expected `int` >= 1 (at $.qty)"
    )
    assert (error.status, error.errors) == (422, tuple(faults))
    assert str(InputError(400, "the body is not JSON")) == "the body is not JSON"


def test_a_problem_carries_what_the_answer_says():
    problem = Problem(409, "sold out", headers={"retry-after": "5"}, sku="X", detail="none left")
    assert str(problem) == "409 sold out"
    assert (problem.status, problem.title, problem.headers) == (409, "sold out", {"retry-after": "5"})
    assert problem.fields == {"sku": "X", "detail": "none left"}


@pytest.mark.parametrize(
    ("status", "title"),
    [(404, "Not Found"), (503, "Service Unavailable"), (499, "Client Error"), (599, "Server Error")],
)
def test_a_problem_without_a_title_has_its_statuss(status, title):
    assert Problem(status).title == phrase(status) == title


@pytest.mark.parametrize("status", [200, 302, 399, 600])
def test_a_problem_is_an_error(status):
    with pytest.raises(
        ValueError, match=rf"^Problem\({status}\): a problem has a status from 400 to 599; return a Reply"
    ):
        Problem(status)


@pytest.mark.parametrize("field", ["status", "title", "run_id"])
def test_a_problem_leaves_the_runtimes_fields_alone(field):
    with pytest.raises(ValueError, match=f"^Problem field '{field}' is set by the runtime; choose another name"):
        Problem(404, "no such article", **{field: "mine"})
