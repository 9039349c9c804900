"""What a docstring says, and what is refused in it."""

import pytest

from runtime.declare.loader import load
from runtime.declare.signatures.docstrings import Example, read_doc


def test_a_docstring_is_a_summary_a_description_and_examples():
    doc = read_doc("""Add x and y.

        More of it,
        on two lines.

        Example: large numbers
            {"x": 200,
             "y": 3}

        Example: {"x": 1}

        Examples:
            {"x": 2} {"x": 3}

        The end.
        """)
    assert doc.summary == "Add x and y."
    assert doc.description == "More of it,\non two lines.\n\nThe end."
    assert doc.examples == (
        Example(title="large numbers", arguments={"x": 200, "y": 3}),
        Example(title="example", arguments={"x": 1}),
        Example(title="example 2", arguments={"x": 2}),
        Example(title="example 3", arguments={"x": 3}),
    )


def test_an_example_that_is_prose_or_python_stays_in_the_description():
    doc = read_doc("Add.\n\nExample:\n    call it with two numbers\n\nExamples:\n    >>> add(1, 2)")
    assert (doc.examples, doc.description.count("Example")) == ((), 2)


def test_a_docstring_may_be_missing_or_nothing_but_an_example():
    assert read_doc(None) == read_doc("")
    assert (read_doc('Example: {"x": 1}').summary, len(read_doc('Example: {"x": 1}').examples)) == ("", 1)


FILE = """
    import msgspec
    from runtime import Context, http

    class Order(msgspec.Struct):
        sku: str

    @http.post("/orders/{customer}")
    async def create(customer: str, order: Order, ctx: Context) -> None:
        '''Order.

        Example:
            is prose

        Example: one
            EXAMPLE
        '''
"""


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (
            '{"customer": "c", "order": {"sku": 1}}',
            "does not fit the function: Expected `str`, got `int` - at `$.order",
        ),
        ('{"customer": "c"}', "does not fit the function: Object missing required field `order`"),
        (
            '{"customr": "c", "order": {"sku": "X"}}',
            """has 'customr', which the function does not take; did you mean""",
        ),
        ('{"ctx": 1}', "has 'ctx', which the function does not take"),
        ("{'customer': 'c'}", "is not JSON: Expecting property name"),
        ('{"customer": "c"', "is not JSON"),
        ('{"customer": "c", "order": {"sku": "X"}} [1]', "is one JSON object of arguments by name, not [1]"),
    ],
)
def test_an_example_that_is_no_call_is_a_load_error_on_its_line(write_project, example: str, message: str):
    registry = load(write_project(**{"functions/orders.py": FILE.replace("EXAMPLE", example)}))
    (failure,) = registry.failures
    assert message in failure.message
    assert (failure.file, failure.line) == ("functions/orders.py", 15)


def test_an_example_that_is_a_call_loads(write_project):
    text = FILE.replace("EXAMPLE", '{"customer": "c", "order": {"sku": "X"}}')
    registry = load(write_project(**{"functions/orders.py": text}))
    assert registry.failures == ()
    assert [one.title for one in registry.get("orders.create").doc.examples] == ["one"]
