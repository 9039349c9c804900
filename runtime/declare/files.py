"""Read one file of functions/ into Function records, as its decorators and functions.toml want them.

Called by the loader. Imports the author's file, and runs nothing else of his.
"""

import importlib
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import isfunction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, TypeVar, get_type_hints

import msgspec

from runtime.base.durations import parse_rate
from runtime.base.errors import DeclarationError, SettingsError
from runtime.base.secrets.given import NoSecret, SecretOf, Secrets
from runtime.base.secrets.masking import mask
from runtime.base.sections import FunctionSettings
from runtime.base.settings import FILE_NAME
from runtime.declare.modules import PACKAGE, function_name
from runtime.declare.paths import check_path
from runtime.declare.policies import Policy, checked
from runtime.declare.registry import DEFAULT_QUEUE, Function, LoadFailure
from runtime.declare.resources import Resource, take_marked
from runtime.declare.signatures.docstrings import check_doc
from runtime.declare.signatures.inputs import check_payload, inputs_for
from runtime.declare.signatures.keys import check_key_name, fallback_names, key_names
from runtime.declare.signatures.parameters import parameters_of
from runtime.declare.timing.rules import check_interval, check_queue, check_rule
from runtime.declare.triggers import (
    Cron,
    Declaration,
    Http,
    Interval,
    Queue,
    Schedule,
    Trigger,
    declaration_of,
    take_declared,
)

T = TypeVar("T")

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def functions_in(
    root: Path,
    path: Path,
    overrides: Mapping[str, FunctionSettings],
    resources: Sequence[Resource],
    secret_of: SecretOf | None = None,
) -> tuple[Function, ...]:
    """The functions of a file, disabled ones too. Raises DeclarationError, or whatever the file itself raises.

    resources: what parameters may be given. secret_of: finds a secret by its name; None where functions get none.
    """
    parts = path.relative_to(root / PACKAGE).with_suffix("").parts
    for part in parts:
        if not _FILE_NAME.fullmatch(part):
            raise DeclarationError(f"{part!r} cannot be part of a function's name; use letters, digits, _ and -")
    if not path.is_file() or not path.resolve().is_relative_to((root / PACKAGE).resolve()):
        raise DeclarationError(f"not a file inside {PACKAGE}/; put the file itself there, no link, no pipe")
    module = importlib.import_module(".".join((PACKAGE, *parts)))
    _check_reachable(module)
    found: dict[str, Function] = {}
    for attribute, value in vars(module).items():
        declaration = declaration_of(value)
        if declaration is None or value.__module__ != module.__name__ or attribute != value.__name__:
            continue
        name = function_name(parts, attribute)
        function = _function(name, value, declaration, path.relative_to(root).as_posix(), resources)
        if name in found:
            raise DeclarationError(
                f'two functions are named "{name}", here and on line {found[name].line}', line=function.line
            )
        setting = overrides.get(name, FunctionSettings())
        function = _overridden(function, setting)
        if setting.enabled and secret_of is not None:
            function = _with_secrets(function, (*function.policy.secrets, *setting.secrets), secret_of)
        found[name] = _checked(function)
    return tuple(found.values())


def _with_secrets(function: Function, names: Sequence[str], secret_of: SecretOf) -> Function:
    """The function with the secrets that it names. DeclarationError if one is not to be had."""
    try:
        values = {name: secret_of(name) for name in names}
    except (NoSecret, SettingsError) as error:
        raise DeclarationError(f'"{function.name}" names a secret: {error}', line=function.line) from None
    return msgspec.structs.replace(function, secrets=Secrets(values))


def _check_reachable(module: ModuleType) -> None:
    """Refuse a declared function that nobody could find, which would otherwise be gone without a word."""
    reachable = [id(declaration_of(value)) for name, value in vars(module).items() if name == _name_of(value)]
    for function, declaration in take_declared(module.__name__):
        if id(declaration) not in reachable:
            raise DeclarationError(
                f"{function.__qualname__} is declared here, but cannot be found by that name: it was defined again, it "
                "is no `def` of the file itself, or a decorator above hides it (write @functools.wraps in that)",
                line=function.__code__.co_firstlineno,
            )
    for mark in take_marked(module.__name__):
        raise DeclarationError(
            f"{mark.function.__name__}: @{mark.what} counts in {PACKAGE}/_lifespan.py alone; move it there",
            line=mark.line,
        )


def _name_of(value: object) -> str | None:
    return value.__qualname__ if isfunction(value) else None


def _function(
    name: str, call: Callable[..., Any], declaration: Declaration, file: str, resources: Sequence[Resource]
) -> Function:
    line = min([t.line for t in declaration.triggers] + ([declaration.policy_line] if declaration.policy_line else []))
    return _at_line(
        line,
        lambda: Function(
            name=name,
            call=call,
            file=file,
            line=line,
            triggers=tuple(declaration.triggers),
            policy=declaration.policy,
            parameters=parameters_of(call, resources),
            queue=next((trigger.name for trigger in declaration.triggers if isinstance(trigger, Queue)), DEFAULT_QUEUE),
            on_failure=_name_to_run(declaration.policy.on_failure),
            returns=get_type_hints(call, include_extras=True).get("return", Any),
        ),
    )


def _name_to_run(on_failure: str | Callable[..., Any] | None) -> str | None:
    """The name that `@fn(on_failure=...)` means; the loader looks whether there is such a function."""
    if on_failure is None or isinstance(on_failure, str):
        return on_failure
    package, _, path = str(getattr(on_failure, "__module__", "")).partition(".")
    if package != PACKAGE or not path or declaration_of(on_failure) is None:
        raise DeclarationError(
            f"@fn(on_failure={_name_of(on_failure) or on_failure!r}): no function of {PACKAGE}/ with a decorator; "
            "write @fn or @queue above it"
        )
    return function_name(path.split("."), on_failure.__name__)


def _overridden(function: Function, setting: FunctionSettings) -> Function:
    """The function as functions.toml wants it."""
    triggers = list(function.triggers)
    if setting.schedule is not None:
        _replace_one(function, triggers, (Cron, Interval), lambda old: _scheduled(old, setting.schedule or ""))
    queue = _replace_queue(function, triggers, setting.queue)
    if setting.auth is not None and not any(isinstance(trigger, Http) for trigger in triggers):
        raise DeclarationError(f'{FILE_NAME} sets auth of "{function.name}", which has no route', line=function.line)
    for index, trigger in enumerate(triggers):
        changes: dict[str, Any] = {}
        if setting.timeout is not None and trigger.timeout_seconds is not None:
            changes["timeout_seconds"] = None
        if setting.auth is not None and isinstance(trigger, Http):
            changes["auth"] = setting.auth
        triggers[index] = msgspec.structs.replace(trigger, **changes)
    policy = _overridden_policy(function, setting)
    changed = msgspec.structs.replace(function, triggers=tuple(triggers), policy=policy, queue=queue)
    return msgspec.structs.replace(changed, env={**policy.env, **setting.env}, signing=setting.signing)


def _overridden_policy(function: Function, setting: FunctionSettings) -> Policy:
    said: dict[str, Any] = {}
    if setting.timeout is not None:
        said["timeout_seconds"] = float(setting.timeout)
    if setting.concurrency is not None:
        said["concurrency"] = setting.concurrency
    if (rate := setting.rate) is not None:
        said["rate"] = _at_setting(function, lambda: checked("fn", "rate", parse_rate, rate))
    return msgspec.structs.replace(function.policy, **said)


def _replace_queue(function: Function, triggers: list[Trigger], name: str | None) -> str:
    """The queue of a function. A setting may route runs of one that has no @queue, too."""
    if name is None:
        return function.queue
    queue = _at_setting(function, lambda: check_queue(name))
    if any(isinstance(trigger, Queue) for trigger in triggers):
        _replace_one(function, triggers, (Queue,), lambda old: msgspec.structs.replace(old, name=queue))
    return queue


def _replace_one(
    function: Function, triggers: list[Trigger], kinds: tuple[type[Trigger], ...], change: Callable[[Any], Trigger]
) -> None:
    places = [index for index, trigger in enumerate(triggers) if isinstance(trigger, kinds)]
    if len(places) != 1:
        words = " or ".join(kind.__name__.lower() for kind in kinds)
        raise DeclarationError(
            f'{FILE_NAME} overrides the {words} of "{function.name}"; that takes exactly one, and it has {len(places)}',
            line=function.line,
        )
    triggers[places[0]] = _at_setting(function, lambda: change(triggers[places[0]]))


def _at_setting(function: Function, read: Callable[[], T]) -> T:
    """What a setting says, with an error that names it."""
    try:
        return read()
    except DeclarationError as error:
        raise DeclarationError(f'{FILE_NAME}, [functions."{function.name}"]: {error}', line=function.line) from None


def _scheduled(old: Schedule, schedule: str) -> Schedule:
    """The same trigger by another rule: a cron rule if it has spaces or an @, else an interval."""
    shared = {name: getattr(old, name) for name in Schedule.__struct_fields__}
    if " " in schedule.strip() or schedule.startswith("@"):
        return Cron(rule=check_rule(schedule), tz=getattr(old, "tz", None), **shared)
    return Interval(every_seconds=check_interval(schedule), **shared)


def _checked(function: Function) -> Function:
    """The function itself, if every parameter can be had under each of its triggers, and its examples fit it."""
    for trigger in function.triggers:
        _at_line(trigger.line, partial(check_trigger, function, trigger))
    _at_line(function.line, partial(check_doc, function.call, function.parameters))
    _at_line(function.line, partial(_check_keys, function))
    _at_line(function.line, partial(_check_isolation, function))
    return function


def _check_keys(function: Function) -> None:
    """Refuse an `idempotent=`, `key=` or `fallback=` that cannot be asked, or whose answers could not be kept."""
    policy = function.policy
    if isinstance(policy.key, str):
        check_key_name(policy.key, function.parameters)
    elif policy.key is not None:
        key_names("key", policy.key, function.parameters)
    if callable(policy.fallback):
        fallback_names(policy.fallback, function.parameters)
    if policy.idempotent is None:
        return
    key_names("idempotent", policy.idempotent, function.parameters)
    if function.items is not None:
        raise DeclarationError("@fn(idempotent=...): a stream cannot be kept for the calls after it; return a list")


def _check_isolation(function: Function) -> None:
    """Refuse what cannot be sent to another process, or back from it."""
    if function.policy.isolation is None:
        return
    taken = [p for p in function.parameters if p.injected in ("request", "file")]
    if taken:
        kind = "a Request" if taken[0].injected == "request" else "an UploadFile"
        raise DeclarationError(
            f'@fn(isolation="process"): {taken[0].name} is {kind}, which stays in the process that has its '
            "connection; take what you need of it by name, a header, or the body as bytes"
        )
    if function.items is not None:
        raise DeclarationError('@fn(isolation="process"): a stream does not leave its process; return a list')


def check_trigger(function: Function, trigger: Trigger) -> None:
    """Refuse a trigger that cannot start a function, or cannot supply its parameters. DeclarationError."""
    if isinstance(trigger, Http):
        path = function.route(trigger)
        check_path(path)
        for method in trigger.methods:
            inputs_for(trigger, function.parameters, method, path)
        return
    inputs = inputs_for(trigger, function.parameters, "", "")
    if isinstance(trigger, Schedule):
        check_payload(trigger, inputs)
    if function.kind in ("async stream", "sync stream"):
        raise DeclarationError(
            f"@{trigger.kind}: a generator streams to an HTTP caller; {trigger} has none to stream to"
        )


class Signing(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for routes that do not say otherwise: auth, [http] auth; secrets, [signing] secrets."""

    auth: str = "key"
    secrets: tuple[str, ...] = ()


def check_signing(function: Function, signing: Signing) -> None:
    """Refuse signed routes nobody could sign for. DeclarationError."""
    default, secrets = signing.auth, signing.secrets
    for trigger in function.triggers:
        if isinstance(trigger, Http) and (trigger.auth or default) == "signed" and not (function.signing or secrets):
            raise DeclarationError(
                f'{trigger} of {function.name} is auth="signed", and there is no secret: set [signing] secrets, or '
                f'[functions."{function.name}"] signing; `fnrun secrets keygen --webhook` makes one',
                line=trigger.line,
            )


def _at_line(line: int, check: Callable[[], T]) -> T:
    try:
        return check()
    except DeclarationError as error:
        error.line = error.line or line
        raise


def failure_of(file: str, error: BaseException) -> LoadFailure:
    """What to tell of a file that raised `error`."""
    if isinstance(error, DeclarationError):
        return LoadFailure(file=file, line=error.line or _line_in(error, file), message=mask(str(error)))
    trace = mask("".join(traceback.format_exception(type(error), error, _authors_part(error.__traceback__))))
    if isinstance(error, SyntaxError) and error.filename and error.filename.endswith(file):
        return LoadFailure(file=file, line=error.lineno or None, message=f"SyntaxError: {error.msg}", traceback=trace)
    what = mask(f"{type(error).__name__}: {error}").rstrip(": ")
    if isinstance(error, SystemExit):
        what = "the file ends the process when imported (sys.exit); move that into a function"
    return LoadFailure(file=file, line=_line_in(error, file), message=what, traceback=trace)


def _authors_part(trace: TracebackType | None) -> TracebackType | None:
    """From the first frame of a file of functions/ on: ours and Python's own before it say nothing to the author."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] != PACKAGE:
        trace = trace.tb_next
    return trace


def _line_in(error: BaseException, file: str) -> int | None:
    """The last line of `file` that was at work when `error` was raised."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(file)]
    return lines[-1] if lines else None
