"""Call a function, here or on a running system; ask a server whether it is well."""

import asyncio
import http.client
import json
import ssl
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
from runtime.base.ids import new_run_id, trace_of
from runtime.base.settings import load_settings
from runtime.cli.project import print_failures
from runtime.declare.context import log_fields
from runtime.declare.markers import Reply
from runtime.declare.registry import Function

_HEALTH_SECONDS = 3.0


@click.command()
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
        print_failures(project)
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
    from runtime.invoke.results import encode_json  # noqa: PLC0415

    run_id = new_run_id()
    invocation = Invocation(
        function=function,
        trigger="cli",
        arguments=PayloadPlan(function).bind(payload),
        run_id=run_id,
        trace=trace_of(run_id, None),
        timeout_seconds=function.policy.timeout_seconds or float(project.settings.http.timeout),
    )
    invoker = Invoker(threads=1)
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
        try:
            async for item in outcome.value:
                click.echo(encode_json(item))
        except Exception as error:  # noqa: BLE001 - whatever an author's generator raises
            raise click.ClickException(f"{function.name} failed midway: {type(error).__name__}: {error}") from None
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


def _fetch(
    url: str,
    *,
    headers: dict[str, str],
    data: bytes | None = None,
    timeout: float | None = None,
    verified: bool = True,
) -> bytes:
    """The body of a successful answer; ClickException with the problem's own words otherwise. Asks no proxy.

    verified: False for this machine's own address, which no certificate names, and only where nothing secret is sent.
    """
    if not url.startswith(("http://", "https://")):
        raise click.ClickException(f"{url} is not an http:// or https:// address")
    context = ssl.create_default_context()
    if not verified:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirects()
    )
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


@click.command()
@click.pass_obj
def health(root: Path) -> None:
    """Ask the server of this project whether it is well; exit 0 if it is. For containers."""
    settings = load_settings(root).settings.http
    host, _, port = settings.bind.rpartition(":")
    if host.strip("[]") in ("", "0.0.0.0", "::"):  # noqa: S104 - what it listens on, not what is asked
        host = "127.0.0.1"
    scheme = "https" if settings.certfile else "http"
    click.echo(_fetch(f"{scheme}://{host}:{port}/_/health", headers={}, timeout=_HEALTH_SECONDS, verified=False))
