from datetime import UTC, datetime

import pytest

from runtime.declare.triggers import At, Cron, Http, Interval, Queue


@pytest.mark.parametrize(
    ("trigger", "kind", "text"),
    [
        (Http(line=1, methods=("GET", "POST"), path="/x"), "http", "GET,POST /x"),
        (Http(line=1, methods=("GET",)), "http", "GET"),
        (Cron(line=1, rule="0 6 * * *"), "cron", 'cron "0 6 * * *"'),
        (Cron(line=1, rule="0 6 * * *", tz="Europe/Paris"), "cron", 'cron "0 6 * * *" Europe/Paris'),
        (Interval(line=1, every_seconds=0.5), "interval", "every 0.5 s"),
        (At(line=1, when=datetime(2030, 1, 1, tzinfo=UTC)), "at", "at 2030-01-01T00:00:00+00:00"),
        (Queue(line=1, name="orders"), "queue", 'queue "orders"'),
    ],
)
def test_a_trigger_says_what_it_is(trigger, kind, text):
    assert (trigger.kind, str(trigger)) == (kind, text)


def test_a_trigger_cannot_be_changed():
    with pytest.raises(AttributeError, match="immutable"):
        Queue(line=1, name="orders").name = "other"
