"""Tell one receiver: a webhook, a command, or a function. What comes of it is a value; nothing is raised.

Called by the watch, for one parcel at a time of each lane. Decides no retry, and keeps nothing.
"""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from runtime.alerts.book import Parcel
from runtime.alerts.rules import Channels
from runtime.base.errors import FnrunError, StoreDown
from runtime.base.secrets.masking import mask
from runtime.base.tables.alerts import AlertingSettings
from runtime.ledger.desk import Desk
from runtime.ledger.records import Submission
from runtime.ledger.targets import check_size, limit_key_of, target_of
from runtime.outgoing.sender import Sender

_MOST_OUTPUT = 300
_READ_BYTES = 64_000


class Told(msgspec.Struct, frozen=True):
    """What came of it. error: "" if it was taken. pause_seconds: that the receiver asked for. final: no other try."""

    error: str = ""
    pause_seconds: float = 0.0
    final: bool = False


class Delivery:
    """The ways out of a process. root: where commands begin. sender: for webhooks; made within the loop."""

    def __init__(self, desk: Desk, root: Path, given: AlertingSettings, sender: Sender) -> None:
        self._desk = desk
        self._root = root
        self._given = given
        self._sender = sender

    async def tell(self, parcel: Parcel, channels: Channels, now: float) -> Told:
        """Tell one of a rule's receivers. now: seconds since the epoch."""
        if parcel.channel not in channels.names:
            return Told("the rule names no such receiver any more", final=True)
        ways: Mapping[str, Callable[[Parcel, Channels, float], Awaitable[Told]]] = {
            "webhook": self._post,
            "command": self._start,
            "run": self._submit,
        }
        return await ways[parcel.channel](parcel, channels, now)

    async def _post(self, parcel: Parcel, channels: Channels, now: float) -> Told:
        sent = await self._sender.send(
            channels.webhook,
            parcel.body,
            secrets=channels.secrets,
            message_id=parcel.message_id,
            timestamp=int(now),
            private=self._given.allow_private,
            timeout_seconds=float(self._given.timeout),
        )
        hint = "" if self._given.allow_private or not sent.refused else "; [alerting] allow_private lets it"
        return Told(sent.told + hint, sent.retry_after or 0.0) if sent.told else Told()

    async def _start(self, parcel: Parcel, channels: Channels, _: float) -> Told:
        return await start_command(channels.command, self._root, parcel.body, float(self._given.timeout))

    async def _submit(self, parcel: Parcel, channels: Channels, _: float) -> Told:
        """A run whose id is the message's: however often it is tried, there is one."""
        try:
            catalogue = self._desk.registry
            target = target_of(channels.run, None if catalogue is None else catalogue())
            payload = b'{"alert":%s}' % parcel.body
            bound = None if target.plan is None else target.plan.bind(payload)
            check_size(target, len(payload), self._desk.payload_max)
            accepted = await self._desk.accept(
                Submission(
                    id=parcel.message_id,
                    function=target.name,
                    queue=target.queue,
                    payload=payload,
                    trigger="alert",
                    key=None if bound is None else limit_key_of(target.key, bound),
                    max_length=self._desk.max_length,
                )
            )
        except StoreDown:
            raise
        except FnrunError as error:
            return Told(f"run: {error}")
        return Told(f"run: the queue {target.queue} is full") if accepted.verdict == "full" else Told()


async def start_command(command: Sequence[str], root: Path, body: bytes, timeout_seconds: float) -> Told:
    """Run a program with JSON on its standard input; no shell. It, and what it started, has ended when this returns.

    Of our own settings, secrets among them, it sees nothing.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FNRUN_")}
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=STDOUT, cwd=root, env=environ, start_new_session=True
        )
    except (OSError, ValueError) as error:
        return Told(f"{command[0]} cannot be started: {error}")
    output: list[bytes] = []
    try:
        async with asyncio.timeout(timeout_seconds):
            await asyncio.gather(_feed(process, body), _read(process, output))
            code = await process.wait()
    except TimeoutError:
        return Told(f"{command[0]} has not ended within {timeout_seconds:g} s{_said(output)}")
    finally:
        with suppress(ProcessLookupError):  # its children, too, however it went
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return Told() if code == 0 else Told(f"{command[0]} ended with {code}{_said(output)}")


async def _feed(process: asyncio.subprocess.Process, body: bytes) -> None:
    assert process.stdin is not None  # noqa: S101 - it was asked for
    with suppress(ConnectionError):  # it reads none of it
        process.stdin.write(body + b"\n")
        await process.stdin.drain()
    process.stdin.close()


async def _read(process: asyncio.subprocess.Process, output: list[bytes]) -> None:
    """All that it prints, of which the end is kept."""
    assert process.stdout is not None  # noqa: S101 - as above
    while some := await process.stdout.read(_READ_BYTES):
        output[:] = [b"".join((*output, some))[-_READ_BYTES:]]


def _said(output: Sequence[bytes]) -> str:
    # Masked before it is cut: half a secret would be found by nobody.
    text = mask(b"".join(output).decode(errors="replace").strip())[-_MOST_OUTPUT:]
    return f": {text}" if text else ""
