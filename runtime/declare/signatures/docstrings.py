"""Read what a function's docstring says: a summary, a description, and examples of its arguments.

Called by the loader, which checks the examples, and by openapi. Pure. An example is a section of the docstring:

    Example: two of one article
        {"customer": "c1", "order": {"sku": "X", "qty": 2}}

its JSON is one object of arguments by name, as `fnrun invoke --data` takes it. A section that does not begin with a
brace is prose, and stays in the description.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from inspect import cleandoc, getsourcelines, unwrap
from typing import Any

import msgspec

from runtime.base.errors import DeclarationError, did_you_mean
from runtime.declare.signatures.inputs import Input, model_of
from runtime.declare.signatures.parameters import Parameter

_SECTION = re.compile(r"^Examples?:[ \t]*(?P<title>[^{\n]*?)[ \t]*\n?(?P<text>[ \t]*\{.*\n?(?:(?:[ \t].*)?\n?)*)", re.M)
_HEADING = re.compile(r"^Examples?:", re.M)
_BETWEEN = re.compile(r"\s*")


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """Arguments of one call, by name. title: what the docstring calls it, or "example", "example 2"."""

    title: str
    arguments: Mapping[str, Any]


class Doc(msgspec.Struct, frozen=True, kw_only=True):
    """A docstring in its parts. summary: its first line."""

    summary: str = ""
    description: str = ""
    examples: tuple[Example, ...] = ()


def read_doc(docstring: str | None) -> Doc:
    """The parts of a docstring. DeclarationError for an example that is not JSON."""
    text = cleandoc(docstring or "")
    summary, _, rest = ("", "", text) if _SECTION.match(text) else text.partition("\n")
    examples: dict[str, Example] = {}
    for section in _SECTION.finditer(text):
        for arguments in _objects(section["text"]):
            title = section["title"] or "example"
            number = sum(1 for one in examples if one.rpartition(" ")[0] == title or one == title)
            title = f"{title} {number + 1}" if number else title
            examples[title] = Example(title=title, arguments=arguments)
    return Doc(summary=summary.strip(), description=_SECTION.sub("", rest).strip(), examples=tuple(examples.values()))


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a section, one after the other."""
    decoder, at = json.JSONDecoder(), _after_space(text, 0)
    while at < len(text):
        try:
            found, at = decoder.raw_decode(text, at)
        except ValueError as error:
            raise DeclarationError(
                f"an example in the docstring is not JSON: {error}; write arguments by name, {{"
                '"x": 2}, or begin it with a word'
            ) from None
        if not isinstance(found, dict):
            raise DeclarationError(
                f"an example in the docstring is one JSON object of arguments by name, not {found!r}"
            )
        yield found
        at = _after_space(text, at)


def _after_space(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def check_doc(call: Any, parameters: Sequence[Parameter]) -> None:
    """Refuse a docstring whose examples are not arguments of its function. DeclarationError with the line."""
    text = cleandoc(call.__doc__ or "")
    for section in _SECTION.finditer(text):
        try:
            for arguments in _objects(section["text"]):
                _check_arguments(arguments, parameters)
        except DeclarationError as error:
            error.line = _line_of(call, len(_HEADING.findall(text, 0, section.start())))
            raise


def _check_arguments(given: Mapping[str, Any], parameters: Sequence[Parameter]) -> None:
    inputs = [Input(parameter=p, origin="argument", wire=p.name) for p in parameters if p.injected is None]
    for name in given.keys() - {one.name for one in inputs}:
        hint = did_you_mean(name, [one.name for one in inputs]) or "; take it out"
        raise DeclarationError(f"an example in the docstring has {name!r}, which the function does not take{hint}")
    try:
        msgspec.convert(given, model_of(inputs), str_keys=True)
    except msgspec.ValidationError as error:
        raise DeclarationError(f"an example in the docstring does not fit the function: {error}") from None


def _line_of(call: Any, heading: int) -> int | None:
    """Where that heading of a docstring stands in its file, the first being 0; None where there is no source."""
    try:
        lines, first = getsourcelines(unwrap(call))
    except (OSError, TypeError):
        return None
    found = [first + number for number, line in enumerate(lines) if _HEADING.match(line.strip().lstrip("\"'"))]
    return found[heading] if heading < len(found) else first
