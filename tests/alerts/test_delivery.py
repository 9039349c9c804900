"""The ways out: a webhook that somebody else's library verifies, a command, a run."""

import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runtime.alerts.book import Parcel
from runtime.alerts.delivery import Delivery, Told, start_command
from runtime.alerts.judging import Subject, Telling
from runtime.alerts.messages import message_of
from runtime.alerts.rules import Channels
from runtime.base.secrets.masking import hide
from runtime.base.tables.alerts import AlertingSettings
from runtime.base.webhooks import secret_of
from runtime.ledger.desk import Desk
from runtime.outgoing.sender import Sender
from tests.alert_receivers import Receiver, a_receiver
from tests.alerts.conditions import rule
from tests.desks import view_of
from tests.live_servers import until

BODY = b'{"type":"alert.fired"}'


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with a_receiver() as receiver:
        yield receiver


def parcel(channel: str, message: str = "m1") -> Parcel:
    return Parcel(name=f"{channel}:r:{message}", event="fired", body=BODY, made=0.0)


async def deliver(desk: Desk, channels: Channels, root: Path = Path(), **given) -> Told:
    (channel,) = channels.names
    delivery = Delivery(desk, root, AlertingSettings(**given), Sender())
    return await delivery.tell(parcel(channel), channels, time.time())


async def test_a_webhook_is_signed_and_verified(desk, receiver):
    channels = Channels(webhook=receiver.url, secrets=(secret_of(receiver.secret),))
    assert await deliver(desk, channels, allow_private=True) == Told()
    assert receiver.messages == [("m1", json.loads(BODY))]
    assert receiver.forged == []


async def test_the_address_of_a_webhook_is_in_no_line_and_what_authors_send_still_is(desk, receiver, caplog):
    caplog.set_level(logging.DEBUG)
    await deliver(desk, Channels(webhook=receiver.url, secrets=(secret_of(receiver.secret),)), allow_private=True)
    assert "/hook" not in caplog.text
    async with httpx.AsyncClient() as client:
        await client.post(receiver.url, content=b"")
    assert "/hook" in caplog.text


async def test_a_webhook_at_a_private_address_is_refused_unless_told_otherwise(desk, receiver):
    told = await deliver(desk, Channels(webhook=receiver.url, secrets=(secret_of(receiver.secret),)))
    assert "no public address" in told.error
    assert "allow_private" in told.error
    assert receiver.messages == []


async def test_a_receiver_that_is_not_well_is_tried_again(desk, receiver):
    receiver.answers = [503]
    channels = Channels(webhook=receiver.url, secrets=(secret_of(receiver.secret),))
    assert await deliver(desk, channels, allow_private=True) == Told("it answered 503")


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


async def test_a_command_reads_json_and_sees_no_settings_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("FNRUN_SECRET_KEY", "k")
    code = "import os, sys; open('told', 'w').write(sys.stdin.read() + str([n for n in os.environ if 'FNRUN' in n]))"
    assert await start_command(python(code), tmp_path, BODY, 10) == Told()
    assert (tmp_path / "told").read_text() == BODY.decode() + "\n[]"


async def test_a_command_that_fails_says_what_it_printed(tmp_path):
    told = await start_command(python("print('x' * 100_000 + ' no mail today'); exit(3)"), tmp_path, BODY, 10)
    assert "ended with 3" in told.error
    assert told.error.endswith("no mail today")
    assert len(told.error) < 500


async def test_what_a_command_prints_is_shown_without_secrets(tmp_path):
    secret = secrets.token_hex(16)
    hide([secret])
    told = await start_command(python(f"print('no access with {secret}'); exit(1)"), tmp_path, BODY, 10)
    assert told.error.endswith("no access with ****")


async def test_of_a_secret_that_is_cut_nothing_is_shown(tmp_path):
    secret = secrets.token_hex(16)
    hide([secret])
    told = await start_command(python(f"print('{secret}' + 'x' * 290); exit(1)"), tmp_path, BODY, 10)
    assert secret[-5:] not in told.error


async def test_a_command_that_is_not_there_says_so(tmp_path):
    assert "nosuch cannot be started" in (await start_command(("nosuch",), tmp_path, BODY, 10)).error


async def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path):
    code = (
        "import os, subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; "
        "time.sleep(99)']); open('pids', 'w').write(f'{os.getpid()} {child.pid}'); time.sleep(99)"
    )
    assert "has not ended within 1.5 s" in (await start_command(python(code), tmp_path, BODY, 1.5)).error
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        until(lambda pid=pid: not runs(pid), 15)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


async def test_a_command_that_reads_nothing_is_fine(tmp_path):
    assert await start_command(python(""), tmp_path, BODY * 100_000, 10) == Told()


async def test_a_function_gets_one_run_however_often_it_is_tried(desk):
    for _ in range(3):
        assert await deliver(desk, Channels(run="ops.page")) == Told()
    view = view_of(desk, "m1")
    assert (view.function, view.trigger, bytes(view.payload)) == ("ops.page", "alert", b'{"alert":%s}' % BODY)


def test_a_message_reads_as_a_sentence_and_as_data():
    one = Subject(phase="firing", id="i1", fired_at=0.0, value=0.125, detail="of 40 calls")
    made = message_of(rule("failure_rate > 5%"), Telling("fired", {"orders.create": one}), "m1", 10.0)
    body = json.loads(made.body)
    assert body == {
        "type": "alert.fired",
        "timestamp": "1970-01-01T00:00:10.000Z",
        "text": "r fires (failure_rate > 5%): orders.create 12.5% (of 40 calls)",
        "data": {
            "alert": "r", "when": "failure_rate > 5%", "id": "m1",
            "firings": [
                {
                    "id": "i1", "function": "orders.create", "value": 0.125, "detail": "of 40 calls",
                    "since": "1970-01-01T00:00:00.000Z",
                }
            ],
        },
    }  # fmt: skip


def test_a_message_about_many_stays_small():
    many = {f"f{n:03}": Subject(phase="firing", id=str(n), fired_at=0.0, value=9) for n in range(1000)}
    body = json.loads(message_of(rule(), Telling("fired", many), "m1", 10.0).body)
    assert (len(body["data"]["firings"]), body["data"]["more"]) == (50, 950)
    assert body["text"].endswith("f009 9 and 990 more")
