"""Call a function, here or on a running system; ask a server whether it is well."""

import asyncio
import json
import socket
import sys
from collections.abc import Mapping
from contextlib import aclosing, closing
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from runtime import projects
from runtime.base.errors import StartError
from runtime.base.ids import new_run_id, trace_of
from runtime.base.sections import Settings
from runtime.base.settings import load_settings
from runtime.cli.project import print_failures
from runtime.cli.remote import fetch
from runtime.cli.systems import finished_run, for_systems, open_system, seconds_of
from runtime.declare.markers import Reply
from runtime.declare.registry import Function

if TYPE_CHECKING:  # other commands do without
    from runtime.invoke.invocation import Outcome

_HEALTH_SECONDS = 3.0
_LOG_FD = 2
"""What is logged under `invoke` is on stderr, also by processes of isolated functions: stdout is for the result."""


@click.command()
@click.argument("name")
@click.option("--data", default="{}", help="Arguments by name as a JSON object; @FILE reads a file, - reads stdin.")
@click.option("--async", "later", is_flag=True, help="Let a worker run it; print the run's id.")
@click.option("--wait", help='With --async: wait so long, "30s" for instance, and print the result.')
@click.option("--callback", help="With --async: a URL that is told, signed, how the run ended.")
@for_systems
@click.pass_obj
def invoke(root: Path, /, name: str, data: str, later: bool, wait: str | None, **where: str | None) -> None:
    """Run one function and print its result."""
    payload, url, key = _payload(data), where["url"], where["key"]
    for option in ("wait", "callback"):
        if (wait if option == "wait" else where["callback"]) is not None and not later:
            raise click.UsageError(f"--{option} is for --async")
    if later:
        _invoke_later(root, name, payload, wait, where)
    elif url:
        click.echo(_invoke_there(url, key, name, payload).removesuffix(b"\n"))
    else:
        asyncio.run(_invoke_here(*_function_here(root, name), payload))


def _function_here(root: Path, name: str) -> tuple[projects.Project, Function]:
    project = projects.load_project(root)
    projects.begin_log(root, project.settings, stream=sys.stderr, direct=True)
    if name not in project.registry.functions:
        print_failures(project)
    return project, project.registry.get(name)


def _invoke_later(root: Path, name: str, payload: bytes, wait: str | None, where: Mapping[str, str | None]) -> None:
    """Print the id of a run; or with `wait` its result, and exit 1 if it has none."""
    wait_seconds = seconds_of("--wait", wait) if wait is not None else 0.0
    function = None if where["url"] else _function_here(root, name)[1]
    with open_system(root, where, function) as system:
        answer = system.ask(
            "POST",
            f"/_/functions/{quote(name)}/invoke",
            body=payload,
            headers={"prefer": "respond-async"} | ({"x-callback-url": url} if (url := where["callback"]) else {}),
        )
        if answer.status != HTTPStatus.ACCEPTED:
            raise click.ClickException(
                f"{name} cannot run later: it streams, or takes a Request or files; so it was called at once"
            )
        run_id = str(json.loads(answer.body)["id"])
        click.echo(run_id, err=wait is not None)
        if wait is None:
            return
        run = finished_run(system, run_id, wait_seconds)
    if "finished_at" not in run:
        raise click.ClickException(f"{name} has not finished after {wait}: it is {run['state']}; see `fnrun runs show`")
    if run["state"] != "succeeded":
        failure = run.get("failure", {"type": run["state"], "message": run.get("reason", "")})
        raise click.ClickException(f"{name} failed: {failure['type']}: {failure['message']}")
    click.echo(json.dumps(run["result"], ensure_ascii=False, separators=(",", ":")))


def _payload(data: str) -> bytes:
    if data == "-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        try:
            return Path(data[1:]).read_bytes()
        except OSError as error:
            raise click.ClickException(f"{data[1:]} cannot be read: {error.strerror}") from None
    return data.encode()


async def _invoke_here(project: projects.Project, function: Function, payload: bytes) -> None:
    from runtime.cli.once import invoke_once  # noqa: PLC0415 - other commands do without
    from runtime.invoke.binding import PayloadPlan  # noqa: PLC0415
    from runtime.invoke.invocation import Invocation  # noqa: PLC0415
    from runtime.invoke.invoker import Invoker  # noqa: PLC0415
    from runtime.invoke.isolation.surroundings import isolated_of  # noqa: PLC0415
    from runtime.invoke.resources import Resources  # noqa: PLC0415
    from runtime.tasks.home import close_here  # noqa: PLC0415

    run_id = new_run_id()
    invocation = Invocation(
        function=function,
        trigger="cli",
        arguments=PayloadPlan(function).bind(payload),
        run_id=run_id,
        trace=trace_of(run_id, None),
        timeout_seconds=function.policy.timeout_seconds or float(project.settings.http.timeout),
    )
    lifespan = project.registry.lifespan
    if lifespan is None:
        print_failures(project)
        raise StartError("functions/_lifespan.py does not load, and nothing runs without its resources")
    resources = Resources(lifespan)
    isolated = isolated_of(project.root, project.settings, lifespan.secrets, stdout=_LOG_FD)
    invoker = Invoker(threads=1, resources=resources.opened, isolated=isolated)
    failure: click.ClickException | None = None
    async with resources, aclosing(isolated):
        try:
            await _print_outcome(function, await invoke_once(project, invocation, invoker.invoke))
        except click.ClickException as error:
            failure = error
        await close_here(float(project.settings.serve.drain))
    if invoker.threads.busy or resources.left:  # a thread past its time would keep this process until it ends
        if failure is not None:
            failure.show()
        projects.end_process(failure.exit_code if failure else 0)
    if failure is not None:
        raise failure


async def _print_outcome(function: Function, outcome: "Outcome") -> None:
    """Print what a function returned or streams. ClickException if it failed."""
    from runtime.invoke.execute import Stream  # noqa: PLC0415 - other commands do without
    from runtime.invoke.results import encode_json  # noqa: PLC0415

    if outcome.state == "failed":
        error = outcome.error
        reason = "it did not finish in time" if error is None else f"{type(error).__name__}: {error}"
        raise click.ClickException(f"{function.name} failed: {reason}")
    if outcome.fell_back:
        click.echo(f"{function.name} fell back: {outcome.fell_back}", err=True)
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
    return fetch(f"{url.rstrip('/')}/_/functions/{quote(name)}/invoke", headers=headers, data=payload).body


@click.command()
@click.pass_obj
def health(root: Path) -> None:
    """Ask the roles of this project on this machine whether they are well; exit 0 if they are. For containers.

    HTTP answers for a process tree that serves it; of other roles, a process must have given a sign of life lately.
    """
    everything = load_settings(root).settings
    if "http" not in everything.serve.only and everything.ops.bind:
        _ask(everything.ops.bind, "http", "/_/ready")
        return
    if "http" not in everything.serve.only:
        _check_others(root, everything)
        return
    settings = everything.http
    _ask(settings.bind, "https" if settings.certfile else "http", "/_/health")


def _ask(bind: str, scheme: str, path: str) -> None:
    host, _, port = bind.rpartition(":")
    if host.strip("[]") in ("", "0.0.0.0", "::"):  # noqa: S104 - what it listens on, not what is asked
        host = "127.0.0.1"
    found = fetch(f"{scheme}://{host}:{port}{path}", headers={}, timeout=_HEALTH_SECONDS, verified=False)
    click.echo(found.body)


def _check_others(root: Path, settings: Settings) -> None:
    from runtime.ledger.desk import open_desk  # noqa: PLC0415 - other commands need no store
    from runtime.ledger.schedules.book import Book  # noqa: PLC0415 - as above

    with closing(open_desk(root, settings, again=True)) as desk:
        asked = {"scheduler": Book(desk.ledger).schedulers(), "worker": desk.ledger.workers()}
        for role in settings.serve.only:
            here = [one.name for one in desk.ask_sync(asked[role]) if one.host == socket.gethostname()]
            if not here:
                raise click.ClickException(
                    f"no {role} on this machine has given a sign of life lately; its log says why"
                )
            click.echo(f"{role}s: {', '.join(here)}")
