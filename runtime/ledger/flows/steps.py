"""What authors write: `step`, `chain`, `group`, `chord`, and PREVIOUS for the last result. Pure data.

Called by authors, in handlers and in scripts; read by flows.plan when the flow is submitted. A flow can be submitted
any number of times, and stand in others.
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Generic, Literal, NoReturn, ParamSpec, TypeVar, Unpack, overload

from typing_extensions import override

from runtime.base.errors import SubmitError
from runtime.ledger.options import Options, StepUsing, options_of

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Kind = Literal["chain", "group", "chord"]


class Previous:
    """Where the last result is to stand, anywhere in a step's arguments."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return "PREVIOUS"

    @override
    def __str__(self) -> str:
        raise TypeError("PREVIOUS is known when the step runs, so it cannot be a part of a text: pass it on its own")

    @override
    def __format__(self, _: str) -> str:
        return str(self)

    def __bool__(self) -> bool:
        raise TypeError("PREVIOUS is known when the step runs, so nothing can be decided by it here")

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(name if name.startswith("__") else _WHOLE)  # copy, pickle and inspect look for some

    def _refuse(self, *_: Any) -> NoReturn:
        raise TypeError(_WHOLE)

    __getitem__ = __len__ = _refuse
    __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __and__ = __or__ = _refuse
    __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = __rand__ = __ror__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __abs__ = __int__ = __float__ = _refuse


_WHOLE = (
    "PREVIOUS is known when the step runs, so nothing can be made of it here: let a step take it whole and pick what "
    "it needs"
)
Previous.__name__ = "PREVIOUS"  # what plain submit says of it: "objects of type PREVIOUS"
PREVIOUS: Final[Any] = Previous()
"""The last result: in a chain that of the step before, in a chord's body the list of all, in their order.

It may stand in place of any argument, and within lists, dicts and Structs.
"""


class Part(Generic[R_co]):
    """What a flow is made of: steps and flows. R_co: of its result."""

    __slots__ = ()


class Step(Part[R_co]):
    """A function and its arguments, to be run in a flow."""

    __slots__ = ("args", "arguments", "function", "options")

    def __init__(
        self,
        function: Callable[..., Any] | str,
        args: tuple[Any, ...],
        arguments: Mapping[str, Any],
        options: Options,
    ) -> None:
        self.function = function
        self.args = args
        self.arguments = arguments
        self.options = options

    @override
    def __repr__(self) -> str:
        return f"step({shown(self.function)})"


class Flow(Part[R_co]):
    """A chain, a group or a chord. parts: of a chord its steps, and its body at the end."""

    __slots__ = ("collect", "kind", "parts")

    def __init__(self, kind: Kind, parts: Iterable[Part[Any]], *, collect: bool = False) -> None:
        if not isinstance(collect, bool):
            raise SubmitError(f"{kind}(..., collect={collect!r}): it is True or False")
        self.kind = kind
        self.parts = tuple(parts)
        self.collect = collect

    @override
    def __repr__(self) -> str:
        return f"<{self.kind} of {len(self.parts)}>"


class MakeStep:
    """`step(function, ...)`: as `submit(function, ...)`, to be run in a flow. Checked when that is submitted."""

    __slots__ = ("_options", "_using")

    def __init__(self, using: StepUsing | None = None) -> None:
        self._using: StepUsing = using or {}
        self._options = options_of(self._using, "step")

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Step[R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Step[R]: ...
    @overload
    def __call__(self, function: str, /, **arguments: Any) -> Step[Any]: ...
    def __call__(self, function: Callable[..., Any] | str, /, *args: Any, **arguments: Any) -> Step[Any]:
        """A step: a function, or the one of that name, and its arguments. SubmitError if it is neither."""
        if not (callable(function) or isinstance(function, str)):
            raise SubmitError(f"step({function!r}, ...): the first is a function, or the name of one")
        return Step(function, args, arguments, self._options)

    def using(self, **options: Unpack[StepUsing]) -> "MakeStep":
        """The same with options; see StepUsing. SubmitError for one that cannot hold."""
        return MakeStep({**self._using, **options})


step = MakeStep()


@overload
def chain(*steps: *tuple[*tuple[Part[Any], ...], Part[R]]) -> Flow[R]: ...
@overload
def chain(*steps: Part[R]) -> Flow[R]: ...
def chain(*steps: Any) -> Flow[Any]:  # type: ignore[misc]  # it does accept all that the first one does
    """One after the other, each with the result of the one before as PREVIOUS. Its result is that of the last.

    SubmitError if there is none, or what is no step.
    """
    if not steps:
        raise SubmitError("chain() has no step; write chain(step(f, ...), step(g, x=PREVIOUS))")
    return Flow("chain", _parts("chain", steps))


@overload
def group(*steps: Part[R], collect: Literal[False] = False) -> Flow[list[R]]: ...
@overload
def group(*steps: Part[Any], collect: bool) -> Flow[list[Any]]: ...
def group(*steps: Part[Any], collect: bool = False) -> Flow[list[Any]]:
    """All at once. Its result is the list of theirs, in the order they are written in.

    collect: it succeeds whatever becomes of them, and the list has outcomes: {"state": "succeeded", "result": ...}, or
    {"state": "failed" or "cancelled", "reason": ..., "error": a message, "run_id": ...}. SubmitError for what is no
    step.
    """
    return Flow("group", _parts("group", steps), collect=collect)


def chord(steps: Iterable[Part[Any]], body: Part[R], *, collect: bool = False) -> Flow[R]:
    """All of the steps at once, then the body, with the list of their results as PREVIOUS. Its result is the body's.

    collect: as of a group; the body then runs whatever becomes of the steps. SubmitError for what is no step.
    """
    if isinstance(steps, Part):
        raise SubmitError("chord(step, body): the first is a list of steps; write chord([step, ...], body)")
    return Flow("chord", [*_parts("chord", steps), *_parts("chord", [body])], collect=collect)


def shown(function: Callable[..., Any] | str) -> str:
    """A function as errors name it, who have not looked yet which one it is."""
    return function if isinstance(function, str) else getattr(function, "__qualname__", repr(function))


def _parts(kind: Kind, steps: Iterable[Any]) -> Iterable[Part[Any]]:
    for one in steps:
        if isinstance(one, Part):
            yield one
        elif callable(one) or isinstance(one, str):
            name = f'"{one}"' if isinstance(one, str) else shown(one)
            raise SubmitError(f"{kind}: {shown(one)} is no step; write step({name}, ...)")
        elif kind != "chord" and isinstance(one, Iterable) and not isinstance(one, Mapping):
            raise SubmitError(f"{kind}: a {type(one).__name__} is no step; write {kind}(*steps)")
        else:
            raise SubmitError(f"{kind}: {one!r} is no step; write step(function, ...)")


def writer(token: str) -> Callable[[Any], str]:
    """For an encoder of arguments: PREVIOUS becomes a text that stands nowhere else."""

    def write(value: Any) -> str:
        return token if isinstance(value, Previous) else no_argument(value)

    return write


def no_argument(value: Any) -> NoReturn:
    """For an encoder of arguments: TypeError for what stands in flows alone, and for all that has no JSON."""
    if isinstance(value, Previous):
        raise TypeError("PREVIOUS is a value only within a flow; write submit(chain(step(...), step(f, x=PREVIOUS)))")
    if isinstance(value, Part):
        raise TypeError(f"{value!r} runs only within a flow; write submit(chain({value!r}, step(f, x=PREVIOUS)))")
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")
