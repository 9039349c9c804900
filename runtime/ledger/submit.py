"""`submit` and `submit_sync`: have a function, or a flow of them, run later, by whichever worker is free.

Called by authors, in handlers and in scripts. All that can be wrong is said before anything is accepted; what was
accepted is in the store when the call returns.
"""

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

import msgspec

from runtime.base.errors import InputError, QueueFull, SubmitError
from runtime.base.ids import new_run_id
from runtime.base.web.places import Refused
from runtime.declare.context import current as current_context
from runtime.ledger.flows.nodes import FlowSubmission
from runtime.ledger.flows.steps import Flow, Part
from runtime.ledger.options import Options, Using, options_of
from runtime.ledger.portal import wait_for
from runtime.ledger.records import DEFAULT_PRIORITY, Accepted, Submission
from runtime.ledger.run import Run, SyncRun, current_desk, desk_at_work
from runtime.observe import traces

if TYPE_CHECKING:  # a desk loads the store's client, which a file that only names submit does not need
    from runtime.ledger.desk import Desk
    from runtime.ledger.targets import Named

P = ParamSpec("P")
R = TypeVar("R")


class _Prepared(msgspec.Struct, frozen=True):
    """A run that may be submitted. returns: the annotation of its result. queue: the full one, if there is one."""

    submission: Submission | FlowSubmission
    returns: Any
    queue: str

    def run(self, accepted: Accepted, *, named: bool) -> Run[Any]:
        """The run there is now. named: its submitter chose the id; any other is new, if it is the one we gave."""
        known = accepted.verdict == "known" and (named or accepted.id != self.submission.id)
        return Run(accepted.id, known=known, returns=self.returns)

    def full(self, accepted: Sequence[str] = ()) -> QueueFull:
        """What to raise where there is no room."""
        run = self.submission
        steps = run.steps().total() if isinstance(run, FlowSubmission) else 0
        return QueueFull(self.queue, run.max_length, accepted, steps=steps)


class _Options:
    """What both kinds of submit are: options, and how they make a run."""

    __slots__ = ("_options", "_using")

    def __init__(self, using: Using | None = None) -> None:
        self._using: Using = using or {}
        self._options: Options = options_of(self._using)

    def _prepare(
        self, desk: "Desk", what: "Named | Part[Any]", args: tuple[Any, ...], arguments: Mapping[str, Any]
    ) -> _Prepared:
        if not isinstance(what, Part):
            return self._prepare_run(desk, what, args, arguments)
        if args or arguments:
            raise SubmitError("submit(flow) takes no arguments: those of its steps are with them, step(f, x=1)")
        if not isinstance(what, Flow):
            raise SubmitError(f"{what} alone is no flow: write submit(function, ...), or chain({what})")
        return self._prepare_flow(desk, what)

    def _prepare_run(
        self, desk: "Desk", function: "Named", args: tuple[Any, ...], arguments: Mapping[str, Any]
    ) -> _Prepared:
        from runtime.ledger.targets import check_size, payload_of, target_of  # noqa: PLC0415 - as above

        target = target_of(function, None if desk.registry is None else desk.registry())
        options = self._options
        with _as_submit_error(target.name):
            payload, key = payload_of(target, function, args, arguments)
        check_size(target, len(payload), desk.payload_max)
        parent, trace = _origin()
        submission = Submission(
            id=options.id or new_run_id(),
            function=target.name,
            queue=options.queue or target.queue,
            payload=payload,
            priority=DEFAULT_PRIORITY if options.priority is None else options.priority,
            due=options.due,
            delay_seconds=options.delay_seconds,
            max_age_seconds=options.max_age_seconds or target.max_age_seconds,
            dedupe=options.dedupe,
            parent=parent,
            trace=trace,
            max_length=desk.max_length,
            key=key,
            callback=_callback_of(options, desk),
        )
        return _Prepared(submission, target.returns, submission.queue)

    def _prepare_flow(self, desk: "Desk", flow: Flow[Any]) -> _Prepared:
        from runtime.ledger.flows.plan import Planner  # noqa: PLC0415 - as above

        options = self._options
        catalogue = None if desk.registry is None else desk.registry()
        with _as_submit_error(flow.kind):
            plan = Planner(catalogue, options, desk.payload_max).plan(flow)
        parent, trace = _origin()
        submission = FlowSubmission(
            id=options.id or new_run_id(),
            kind=flow.kind,
            nodes=plan.nodes,
            parent=parent,
            trace=trace,
            priority=DEFAULT_PRIORITY if options.priority is None else options.priority,
            due=options.due,
            delay_seconds=options.delay_seconds,
            dedupe=options.dedupe,
            max_length=desk.max_length,
            payload_max=desk.payload_max,
            callback=_callback_of(options, desk),
        )
        return _Prepared(submission, plan.returns, ", ".join(plan.queues))

    def _prepare_all(self, desk: "Desk", function: "Named", many: Iterable[Mapping[str, Any]]) -> list[_Prepared]:
        for name in ("id", "dedupe"):
            if getattr(self._options, name):
                raise SubmitError(f"submit.using({name}=).many(...): {name} is of one run; submit them one by one")
        if isinstance(function, Part):
            raise SubmitError("submit.many(flow): flows are submitted one by one")
        return [self._prepare_run(desk, function, (), arguments) for arguments in many]

    async def _submit(self, desk: "Desk", prepared: _Prepared) -> Run[Any]:
        run = prepared.submission
        accepted = await (desk.accept(run) if isinstance(run, Submission) else desk.accept_flow(run))
        if accepted.verdict == "full":
            raise prepared.full()
        return prepared.run(accepted, named=self._options.id is not None)

    @staticmethod
    async def _submit_all(desk: "Desk", prepared: list[_Prepared]) -> list[Run[Any]]:
        runs = [one.submission for one in prepared]
        accepted = await desk.accept_all([run for run in runs if isinstance(run, Submission)])
        good = [one.id for one in accepted if one.verdict != "full"]
        if len(good) < len(accepted):
            raise prepared[0].full(good)
        return [one.run(found, named=False) for one, found in zip(prepared, accepted, strict=True)]


@contextmanager
def _as_submit_error(what: str) -> Iterator[None]:
    """Wrong arguments are a fault of whoever submits. As InputError they would be one of its own caller."""
    try:
        yield
    except InputError as error:
        raise SubmitError(f"{what}: {error}") from None


def _callback_of(options: Options, desk: "Desk") -> str:
    """The URL that is told of the end. SubmitError if that may not be."""
    if options.callback:
        from runtime.ledger.callbacks.policy import check_callback  # noqa: PLC0415 - as above

        try:
            check_callback(options.callback, desk.settings.callbacks)
        except Refused as refused:
            raise SubmitError(f"submit.using(callback={options.callback!r}): {refused}") from None
    return options.callback


def _origin() -> tuple[str, str]:
    """The run that submits, "" if none does, and the trace it continues."""
    context = current_context.get(None)
    if context is None:
        return "", ""
    return context.run_id if context.is_run else "", traces.traceparent(context.traceparent)


def _many(prepared: Sequence[_Prepared]) -> tuple[str, int]:
    """What a span says of runs that were submitted at once: their function, and how many they are."""
    return (prepared[0].submission.function if prepared else "nothing"), len(prepared)


class Submit(_Options):
    """`await submit(function, ...)`, `await submit(flow)`.

    What can be wrong is raised before anything is accepted: SubmitError, UnknownFunction. Then QueueFull;
    and StoreDown within 5 s, after which the run may be accepted or not.
    """

    @overload
    async def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Run[R]: ...
    @overload
    async def __call__(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Run[R]: ...
    @overload
    async def __call__(self, function: str, /, **arguments: Any) -> Run[Any]: ...
    @overload
    async def __call__(self, flow: Flow[R], /) -> Run[R]: ...
    async def __call__(self, function: "Named | Flow[Any]", /, *args: Any, **arguments: Any) -> Run[Any]:
        """Have a function, or the one of that name, run with these arguments; or a flow. Durable when this returns."""
        with traces.sending() as note:
            desk = await desk_at_work()
            prepared = self._prepare(desk, function, args, arguments)
            run = await self._submit(desk, prepared)
            note(prepared.submission.function, run.id)
            return run

    def using(self, **options: Unpack[Using]) -> "Submit":
        """The same with options; see Using. SubmitError for one that cannot hold."""
        return Submit({**self._using, **options})

    @overload
    async def many(
        self, function: Callable[..., Coroutine[Any, Any, R]], arguments: Iterable[Mapping[str, Any]], /
    ) -> list[Run[R]]: ...
    @overload
    async def many(self, function: Callable[..., R], arguments: Iterable[Mapping[str, Any]], /) -> list[Run[R]]: ...
    @overload
    async def many(self, function: str, arguments: Iterable[Mapping[str, Any]], /) -> list[Run[Any]]: ...
    async def many(self, function: "Named", arguments: Iterable[Mapping[str, Any]], /) -> list[Run[Any]]:
        """A run for each of the arguments, in their order; 100 of them in a round trip.

        All are checked before the first is accepted. QueueFull has the ids of those that were accepted.
        """
        with traces.sending() as note:
            desk = await desk_at_work()
            prepared = self._prepare_all(desk, function, arguments)
            runs = await self._submit_all(desk, prepared)
            note(*_many(prepared))
            return runs


class SubmitSync(_Options):
    """submit for code without a loop: `submit_sync(function, ...)`, `submit_sync(flow)`.

    It blocks its thread; in that of a loop, all of the loop.
    """

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> SyncRun[R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> SyncRun[R]: ...
    @overload
    def __call__(self, function: str, /, **arguments: Any) -> SyncRun[Any]: ...
    @overload
    def __call__(self, flow: Flow[R], /) -> SyncRun[R]: ...
    def __call__(self, function: "Named | Flow[Any]", /, *args: Any, **arguments: Any) -> SyncRun[Any]:
        """See Submit."""
        with traces.sending() as note:
            desk = current_desk()
            prepared = self._prepare(desk, function, args, arguments)
            run = SyncRun(wait_for(self._submit(desk, prepared)))
            note(prepared.submission.function, run.id)
            return run

    def using(self, **options: Unpack[Using]) -> "SubmitSync":
        """See Submit.using."""
        return SubmitSync({**self._using, **options})

    @overload
    def many(
        self, function: Callable[..., Coroutine[Any, Any, R]], arguments: Iterable[Mapping[str, Any]], /
    ) -> list[SyncRun[R]]: ...
    @overload
    def many(self, function: Callable[..., R], arguments: Iterable[Mapping[str, Any]], /) -> list[SyncRun[R]]: ...
    @overload
    def many(self, function: str, arguments: Iterable[Mapping[str, Any]], /) -> list[SyncRun[Any]]: ...
    def many(self, function: "Named", arguments: Iterable[Mapping[str, Any]], /) -> list[SyncRun[Any]]:
        """See Submit.many."""
        with traces.sending() as note:
            desk = current_desk()
            prepared = self._prepare_all(desk, function, arguments)
            runs = wait_for(self._submit_all(desk, prepared))
            note(*_many(prepared))
            return [SyncRun(run) for run in runs]


submit = Submit()
submit_sync = SubmitSync()
