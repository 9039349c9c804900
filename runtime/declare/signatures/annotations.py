"""Resolve a function's annotations and take them apart.

Called by parameters and by resources. Pure.
"""

import inspect
from collections.abc import Callable
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from runtime.base.errors import DeclarationError


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Its annotations, Annotated kept, by parameter; and "return". DeclarationError if one cannot be read."""
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise DeclarationError(
            f'the annotation "{error.name}" is not defined when the file runs; import it outside `if TYPE_CHECKING`'
        ) from None
    except (TypeError, AttributeError, SyntaxError) as error:
        raise DeclarationError(f"an annotation cannot be read: {error}") from None


def annotated_parameters(function: Callable[..., Any]) -> list[tuple[inspect.Parameter, Any]]:
    """Its parameters with their annotations, Any where there is none. DeclarationError for one not taken by name."""
    hints = hints_of(function)
    found = list(inspect.signature(function).parameters.values())
    for one in found:
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            raise DeclarationError(f"parameter {one}: arguments come by name; declare each, or take a dict")
        if one.kind is one.POSITIONAL_ONLY:
            raise DeclarationError(f"parameter {one.name}: arguments come by name; remove the / from the signature")
    return [(one, hints.get(one.name, Any)) for one in found]


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; the annotation itself where it is none."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
