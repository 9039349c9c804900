"""The `fnrun` command. Parses, calls roles or a lower layer, prints. Decides nothing itself."""

import asyncio
import http.client
import json
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from typing_extensions import override

from runtime import roles
from runtime.base import logs
from runtime.base.durations import parse_duration
from runtime.base.errors import FnrunError
from runtime.base.ids import new_run_id, trace_of
from runtime.base.keys import KeyFile, check_scope
from runtime.base.settings import load_settings
from runtime.declare.context import log_fields
from runtime.declare.markers import Reply
from runtime.declare.registry import RUNNING_TRIGGERS, Function
from runtime.declare.triggers import Http

_HEALTH_SECONDS = 3.0


class _Group(click.Group):
    """Prints the errors we raise on purpose as one line, and keeps tracebacks for bugs."""

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FnrunError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--dir", "root", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The project: the folder that holds functions/. Default: this one.",
)  # fmt: skip
@click.version_option(package_name="fnrun")
@click.pass_context
def main(ctx: click.Context, root: Path) -> None:
    """Serve the functions of a folder: drop a file into functions/ and call it."""
    ctx.obj = root.resolve()


@main.command()
@click.option("--bind", help='Address to listen on, "127.0.0.1:8000" unless functions.toml says otherwise.')
@click.pass_obj
def dev(root: Path, bind: str | None) -> None:
    """Serve while you write: starts anew on save, open to local callers without a key."""
    settings = load_settings(root, _dev_overrides(bind)).settings
    logs.configure(style=settings.log.format, level=settings.log.level)
    with roles.open_socket(settings.http.bind) as sock:
        if not roles.is_loopback(sock):
            click.echo("Not on a loopback address: callers need a key, as under `fnrun serve`.", err=True)
            _show_first_key(root)
        roles.dev(root, sock)


@main.command("serve-child", hidden=True)
@click.option("--fd", type=int, required=True)
@click.pass_obj
def serve_child(root: Path, fd: int) -> None:
    """One child of `fnrun dev`, on a socket it inherits."""
    roles.stop_at_once_until_served()
    project = roles.load_project(root, _dev_overrides(None))
    roles.serve(project, socket.socket(fileno=fd), dev=True, lifeline=True)


def _dev_overrides(bind: str | None) -> dict[str, str]:
    return {"log__requests": "all", "serve__drain": "2s"} | ({"http__bind": bind} if bind else {})


@main.command()
@click.option("--bind", help='Address to listen on, "127.0.0.1:8000" unless functions.toml says otherwise.')
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.pass_obj
def serve(root: Path, bind: str | None, log_level: str | None) -> None:
    """Serve for production, until SIGTERM; then finish what is in flight, up to [serve] drain."""
    roles.stop_at_once_until_served()
    given = {"http__bind": bind, "log__level": log_level}
    project = roles.load_project(root, {name: value for name, value in given.items() if value})
    with roles.open_socket(project.settings.http.bind) as sock:
        _show_first_key(root)
        roles.serve(project, sock)


def _show_first_key(root: Path) -> None:
    token = KeyFile(root).create_first()
    if token:
        click.echo(f"First access key, shown this once: {token}", err=True)


@main.command("list")
@click.pass_obj
def list_functions(root: Path) -> None:
    """Show every function, its triggers, and every file that does not load."""
    project = roles.load_project(root)
    for function in project.registry.functions.values():
        click.echo(f"{click.style(function.name, bold=True)}  {function.place}  {function.summary}".rstrip())
        for line in _trigger_lines(function, project.settings.http.auth):
            click.echo(f"    {line}")
    for name in project.registry.disabled:
        click.echo(f"{click.style(name, bold=True)}  disabled in functions.toml")
    _print_failures(project)
    if not project.registry.functions and not project.registry.failures:
        click.echo("no functions yet: put a file with a decorated function into functions/")


def _trigger_lines(function: Function, auth: str) -> list[str]:
    lines = []
    for trigger in function.triggers:
        if isinstance(trigger, Http):
            lines.append(f"{','.join(trigger.methods)} {function.route(trigger)}  ({trigger.auth or auth})")
        else:
            note = "" if isinstance(trigger, RUNNING_TRIGGERS) else "  (declared; this version does not run it yet)"
            lines.append(f"{trigger}{note}")
    if not lines:
        lines.append("no trigger: called by name only")
    if function.not_enforced:
        lines.append(f"declared; this version does not enforce it yet: {', '.join(function.not_enforced)}")
    return lines


def _print_failures(project: roles.Project, *, tracebacks: bool = False) -> None:
    for failure in project.registry.failures:
        click.echo(click.style(str(failure), fg="red"), err=True)
        if tracebacks and failure.traceback:
            click.echo(failure.traceback, err=True)


@main.command()
@click.pass_obj
def check(root: Path) -> None:
    """Load everything as serve would; print each problem with its file and line. Exit 1 if there is one."""
    project = roles.load_project(root)
    _print_failures(project, tracebacks=True)
    if project.registry.failures:
        raise click.ClickException(f"{len(project.registry.failures)} problem(s)")
    click.echo(f"{len(project.registry.functions)} function(s), no problems")


@main.command()
@click.option("--output", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write it to this file.")
@click.pass_obj
def openapi(root: Path, output: Path | None) -> None:
    """Print the OpenAPI document of the functions. Exit 1, without one, if a file does not load."""
    from runtime.admin.api import VERSION  # noqa: PLC0415 - other commands do without a server
    from runtime.triggers.http.openapi import describe  # noqa: PLC0415

    project = roles.load_project(root)
    _print_failures(project)
    if project.registry.failures:
        raise click.ClickException("no document: what does not load would be missing in it")
    text = json.dumps(describe(project.registry, project.settings.http, VERSION), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"{output} cannot be written: {error.strerror}") from None


@main.command()
@click.argument("name")
@click.option("--data", default="{}", help="Arguments by name as a JSON object; @FILE reads a file, - reads stdin.")
@click.option("--url", envvar="FNRUN_URL", help="A running system; here, in this process, if left out.")
@click.option("--key", envvar="FNRUN_KEY", help="An access key of that system.")
@click.pass_obj
def invoke(root: Path, name: str, data: str, url: str | None, key: str | None) -> None:
    """Run one function and print its result."""
    payload = _payload(data)
    if url:
        click.echo(_invoke_there(url, key, name, payload).removesuffix(b"\n"))
        return
    project = roles.load_project(root)
    settings = project.settings
    logs.configure(style=settings.log.format, level=settings.log.level, stream=sys.stderr, fields=log_fields)
    if name not in project.registry.functions:
        _print_failures(project)
    asyncio.run(_invoke_here(project, project.registry.get(name), payload))


def _payload(data: str) -> bytes:
    if data == "-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        try:
            return Path(data[1:]).read_bytes()
        except OSError as error:
            raise click.ClickException(f"{data[1:]} cannot be read: {error.strerror}") from None
    return data.encode()


async def _invoke_here(project: roles.Project, function: Function, payload: bytes) -> None:
    from runtime.invoke.binding import PayloadPlan  # noqa: PLC0415 - other commands do without
    from runtime.invoke.execute import Stream  # noqa: PLC0415
    from runtime.invoke.invocation import Invocation  # noqa: PLC0415
    from runtime.invoke.invoker import Invoker  # noqa: PLC0415
    from runtime.triggers.http.answers import encode_json  # noqa: PLC0415

    run_id = new_run_id()
    invocation = Invocation(
        function=function,
        trigger="cli",
        arguments=PayloadPlan(function).bind(payload),
        run_id=run_id,
        trace=trace_of(run_id, None),
        timeout_seconds=function.policy.timeout_seconds or float(project.settings.http.timeout),
    )
    invoker = Invoker(project.registry, threads=1)
    outcome = await invoker.invoke(invocation)
    if outcome.state == "failed":
        error = outcome.error
        reason = "it did not finish in time" if error is None else f"{type(error).__name__}: {error}"
        failure = click.ClickException(f"{function.name} failed: {reason}")
        if invoker.threads.busy:  # a thread past its timeout would keep this process until it ends
            failure.show()
            roles.end_process(failure.exit_code)
        raise failure
    if isinstance(outcome.value, Stream):
        async for item in outcome.value:
            click.echo(encode_json(item))
    else:
        value = outcome.value.body if isinstance(outcome.value, Reply) else outcome.value
        click.echo(value if isinstance(value, bytes) else encode_json(value))


def _invoke_there(url: str, key: str | None, name: str, payload: bytes) -> bytes:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    return _fetch(f"{url.rstrip('/')}/_/functions/{quote(name)}/invoke", headers=headers, data=payload)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A key is for the address it was given for."""

    @override
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _fetch(url: str, *, headers: dict[str, str], data: bytes | None = None, timeout: float | None = None) -> bytes:
    """The body of a successful answer; ClickException with the problem's own words otherwise. Asks no proxy."""
    if not url.startswith(("http://", "https://")):
        raise click.ClickException(f"{url} is not an http:// or https:// address")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())
    try:
        request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - the scheme was just checked
        with opener.open(request, timeout=timeout) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise click.ClickException(f"{error.code}: {_problem_text(error.read())}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise click.ClickException(f"{url} does not answer: {getattr(error, 'reason', error)}") from None


def _problem_text(body: bytes) -> str:
    try:
        problem = json.loads(body)
        return ": ".join(str(problem[field]) for field in ("title", "detail") if problem.get(field))
    except (ValueError, AttributeError):
        return body.decode(errors="replace")[:200]


@main.command()
@click.pass_obj
def health(root: Path) -> None:
    """Ask the server of this project whether it is well; exit 0 if it is. For containers."""
    bind = load_settings(root).settings.http.bind
    host, _, port = bind.rpartition(":")
    if host.strip("[]") in ("", "0.0.0.0", "::"):  # noqa: S104 - what it listens on, not what is asked
        host = "127.0.0.1"
    click.echo(_fetch(f"http://{host}:{port}/_/health", headers={}, timeout=_HEALTH_SECONDS))


@main.command()
@click.option("--why", is_flag=True, help="Say where each value comes from.")
@click.pass_obj
def config(root: Path, why: bool) -> None:
    """Print every setting."""
    for one in load_settings(root).explain():
        click.echo(f"{one.path} = {one.value}" + (f"    # {one.source}" if why else ""))


@main.group()
def keys() -> None:
    """Make, list and revoke access keys."""


@keys.command("create")
@click.option("--name", default="", help="What it is for.")
@click.option("--scope", "scopes", multiple=True, default=("invoke",), show_default=True,
              help="admin, read, invoke, or invoke:<function or pattern>; may be given several times.")  # fmt: skip
@click.option("--expires", help='How long it is good for, "30d" for instance; for ever if left out.')
@click.pass_obj
def create_key(root: Path, name: str, scopes: tuple[str, ...], expires: str | None) -> None:
    """Make a key and print it, this once."""
    try:
        lifetime = parse_duration(expires) if expires is not None else None
    except ValueError as error:
        raise click.ClickException(f"--expires: {error}") from None
    if not name.isprintable():
        raise click.ClickException("--name: one line of printable characters")
    key, token = KeyFile(root).create(name, tuple(check_scope(scope) for scope in scopes), lifetime)
    click.echo(token)
    click.echo(f"id {key.id}, scopes {' '.join(key.scopes)}, expires {key.expires}; it cannot be shown again", err=True)


@keys.command("list")
@click.pass_obj
def list_keys(root: Path) -> None:
    """Show the keys: id, scopes, expiry, name. Never the keys themselves."""
    for key in KeyFile(root).list():
        click.echo(f"{key.id}  {' '.join(key.scopes)}  expires {key.expires}  {key.name}".rstrip())


@keys.command("revoke")
@click.argument("key_id")
@click.pass_obj
def revoke_key(root: Path, key_id: str) -> None:
    """Remove a key; running servers refuse it within a second."""
    click.echo(f"revoked {KeyFile(root).revoke(key_id).id}")
