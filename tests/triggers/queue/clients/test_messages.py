"""What Celery's own clients send, read: real clients write it, and nothing here knows the format."""

import base64
import json
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha1
from pathlib import Path

import pytest
from celery import Celery, chain, chord, group
from redis import Redis

from runtime.base.errors import InputError
from runtime.ledger.records import Adoption, Foreign
from runtime.projects import load_project
from runtime.triggers.queue.clients.messages import Reader, by_name, run_id_of
from runtime.triggers.queue.plans import RunPlan, plan_runs

FUNCTIONS = """
    from runtime import Context, fn, queue

    @queue("orders")
    async def create(ctx: Context, customer: str, qty: int = 1, *, note: str = ""): ...

    @queue("orders")
    @fn(max_age="1h")
    async def hasty(): ...

    @queue("orders")
    @fn(key=lambda customer, qty: [customer, qty])
    async def fair(customer: str, qty: int = 1): ...
"""


@pytest.fixture
def plans(write_project: Callable[..., Path]) -> dict[str, RunPlan]:
    project = load_project(write_project(**{"functions/orders.py": FUNCTIONS}))
    return plan_runs(project.registry.functions.values())


@pytest.fixture
def reader(plans: dict[str, RunPlan]) -> Reader:
    return Reader(plans.get, payload_max=10_000, max_length=7)


@pytest.fixture
def read(client: Redis, reader: Reader) -> Callable[[], list[Adoption]]:
    """What is on the list `orders`, oldest first."""

    def read() -> list[Adoption]:
        keys = [key for key in client.scan_iter("orders*") if b"kombu" not in key]
        return [reader.read(message(raw), "orders") for key in keys for raw in client.lrange(key, 0, -1)[::-1]]

    return read


def test_a_task_of_a_function_with_keys_has_its_own_if_its_arguments_fit(app, read):
    send(app, "orders.fair", args=["c1"])
    send(app, "orders.fair", kwargs={"customer": "c2", "qty": 7})
    send(app, "orders.fair", kwargs={"customer": [], "qty": 7})
    send(app, "orders.fair", args=[1, 2, 3])
    send(app, kwargs={"customer": "c1"})
    assert [one.run.key for one in read()] == ['["c1",1]', '["c2",7]', None, None, None]


def message(content: bytes) -> Foreign:
    return Foreign("orders", content, len(content), sha1(content).hexdigest())


def send(app: Celery, name: str = "orders.create", *args, **options):
    return app.send_task(name, *args, queue="orders", **options)


def test_a_task_with_arguments_by_name(app, read):
    sent = send(app, kwargs={"customer": "c1", "qty": 2})
    (one,) = read()
    assert one.refused is None
    assert (one.run.id, one.run.function, one.run.queue, one.run.trigger) == (
        sent.id, "orders.create", "orders", "celery",
    )  # fmt: skip
    assert json.loads(one.run.payload) == {"customer": "c1", "qty": 2}
    assert (one.run.priority, one.run.due, one.expires, one.run.max_length) == (5, None, None, 7)


def test_arguments_by_place_are_named_where_the_function_is_known(app, read):
    send(app, args=("c1",), kwargs={"note": "n"})
    send(app, "orders.unheard", args=("c1",), kwargs={"note": "n"})
    known, unknown = read()
    assert json.loads(known.run.payload) == {"customer": "c1", "note": "n"}
    assert json.loads(unknown.run.payload) == [["c1"], {"note": "n"}]


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        (["c1", 2, "n"], {}, "3 arguments by place, and there is room for 2: customer, qty"),
        (["c1"], {"customer": "c2"}, "given by place, and by name"),
    ],
)
def test_arguments_that_do_not_fit_are_the_runs_failure(app, read, plans, args, kwargs, says):
    send(app, args=args, kwargs=kwargs)
    (one,) = read()
    assert one.refused is None
    with pytest.raises(InputError) as raised:
        by_name(one.run.payload, plans["orders.create"].arguments)
    assert says in raised.value.errors[0]["detail"]


def test_a_worker_names_what_was_not_known_before(plans):
    plan = plans["orders.create"].arguments
    assert json.loads(by_name(b'[["c1", 3], {"note": "n"}]', plan)) == {"customer": "c1", "qty": 3, "note": "n"}
    assert by_name(b'{"customer": "c1"}', plan) == b'{"customer": "c1"}'
    assert by_name(b"[1]", plan) == b"[1]"


def test_times(app, read):
    eta = datetime(2030, 1, 1, 12, tzinfo=UTC)
    send(app, eta=eta, expires=eta + timedelta(hours=1))
    send(app, eta=eta.replace(tzinfo=None))
    send(app, countdown=60, expires=120)
    exact, naive, relative = read()
    assert (exact.run.due, exact.expires) == (eta.timestamp(), eta.timestamp() + 3600)
    assert naive.run.due == eta.timestamp()
    assert relative.expires - relative.run.due == pytest.approx(60, abs=5)
    assert relative.run.due == pytest.approx(datetime.now(UTC).timestamp() + 60, abs=30)


def test_a_functions_own_max_age_holds_where_the_client_says_nothing(app, read):
    send(app, "orders.hasty")
    send(app, "orders.hasty", expires=5)
    silent, said = read()
    assert (silent.run.max_age_seconds, silent.expires) == (3600.0, None)
    assert said.run.max_age_seconds is None


@pytest.mark.parametrize(("said", "priority"), [(None, 5), (0, 5), (1, 1), (3, 3), (9, 9), (10, 9), (-1, 5)])
def test_priorities(app, read, said, priority):
    send(app, priority=said)
    assert [one.run.priority for one in read()] == [priority]


def test_an_id_that_no_run_can_have_is_another_that_stays_the_same(app, read):
    send(app, task_id="order/1")
    send(app, task_id="order/1")
    first, again = read()
    assert first.run.id == again.run.id == run_id_of("order/1", "")
    assert len(first.run.id) == 32
    assert run_id_of(None, "0123456789" * 4) == ("0123456789" * 4)[:32]


def test_what_json_does_not_have_comes_as_functions_read_it(app, read):
    one = uuid.uuid4()
    when = datetime(2030, 1, 1, tzinfo=UTC)
    held = {"a": [when], "b": date(2030, 1, 2), "c": Decimal("1.50"), "d": one, "e": b"\xff", "f": b"text"}
    send(app, "orders.odd", kwargs=held)
    (found,) = read()
    assert json.loads(found.run.payload) == {
        "a": ["2030-01-01T00:00:00+00:00"], "b": "2030-01-02", "c": "1.50", "d": str(one),
        "e": base64.b64encode(b"\xff").decode(), "f": base64.b64encode(b"text").decode(),
    }  # fmt: skip


def test_numbers_come_exactly(app, read):
    send(app, "orders.odd", kwargs={"n": 2**70, "x": 0.1, "when": datetime(2030, 1, 1, tzinfo=UTC)})
    (found,) = read()
    assert json.loads(found.run.payload)["n"] == 2**70


def test_protocol_1(app, read):
    app.conf.task_protocol = 1
    sent = send(app, args=["c1"], kwargs={"qty": 2}, countdown=60)
    (one,) = read()
    assert (one.refused, one.run.id, one.run.function) == (None, sent.id, "orders.create")
    assert json.loads(one.run.payload) == {"customer": "c1", "qty": 2}
    assert one.run.due > 0


def test_a_trace_goes_on(app, read):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    send(app, headers={"traceparent": trace})
    send(app, headers={"traceparent": 5})
    assert [one.run.trace for one in read()] == [trace, ""]


def test_a_group_of_plain_tasks_is_plain_tasks(app, read):
    task = app.signature("orders.create", queue="orders")
    group([task.clone(kwargs={"customer": f"c{n}"}) for n in range(3)], app=app).apply_async()
    assert [json.loads(one.run.payload)["customer"] for one in read() if not one.refused] == ["c0", "c1", "c2"]


def test_celerys_canvas_is_refused_and_says_what_to_write(app, read):
    app.conf.result_backend = "cache+memory://"
    task = app.signature("orders.create", queue="orders", immutable=True)
    chain(task, task, app=app).apply_async()
    task.apply_async(link=task)
    task.apply_async(link_error=task)
    assert [one.refused.message.partition(": ")[2] for one in read()] == [
        "a chain of Celery's is not followed: have a function submit chain(step(...), ...) of runtime",
        "link= is not followed: have a function submit chain(step(...), ...) of runtime",
        "link_error= is not followed: write @fn(on_failure=...) above the function",
    ]


def test_a_chord_is_refused(app, read):
    app.conf.result_backend = "cache+memory://"
    task = app.signature("orders.create", queue="orders", immutable=True)
    chord([task, task], app=app)(task)
    assert {one.refused.message.partition(": ")[2] for one in read()} == {
        "a chord of Celery's is not followed: have a function submit chord([step(...), ...], body) of runtime"
    }


def test_chunks_are_celerys_own_task(app, read):
    send(app, "celery.starmap", kwargs={"task": {}, "it": []})
    assert "celery.starmap is Celery's own task" in read()[0].refused.message


class Bomb:
    """Ends whoever unpickles it."""

    def __reduce__(self):
        return (exit, ("unpickled",))


def test_pickle_is_not_read(app, read):
    sent = send(app, kwargs={"customer": Bomb()}, serializer="pickle")
    (one,) = read()
    assert (one.run.id, one.run.function) == (sent.id, "orders.create")
    assert "application/x-python-serialize" in one.refused.message
    assert 'set task_serializer = "json"' in one.refused.message


def test_yaml_is_not_read(app, read):
    send(app, kwargs={"customer": "c1"}, serializer="yaml")
    assert "application/x-yaml" in read()[0].refused.message


@pytest.mark.parametrize("compression", ["gzip", "bzip2"])
def test_what_is_compressed_is_not_unpacked(app, read, compression):
    send(app, kwargs={"customer": "c" * 100_000}, compression=compression)
    assert "it is compressed" in read()[0].refused.message


def test_a_body_that_is_too_long_is_refused(app, read):
    send(app, kwargs={"customer": "c" * 9_800})
    send(app, kwargs={"customer": "c" * 10_000})
    assert [one.refused and "payload_max, which is 10000" in one.refused.message for one in read()] == [None, True]


@pytest.mark.parametrize("protocol", [1, 2])
def test_an_id_that_is_a_number_is_one_as_text(app, read, protocol):
    app.conf.task_protocol = protocol
    send(app, task_id=12345)
    assert read()[0].run.id == "12345"


def test_a_refused_task_of_the_old_protocol_has_its_id(app, read):
    app.conf.task_protocol = 1
    sent = send(app, kwargs={"customer": "c" * 10_000})
    assert read()[0].run.id == sent.id


def test_of_a_message_that_was_too_long_to_look_at_an_outline_is_read(reader):
    outline = envelope([[]], headers={"task": "orders.create", "id": "a"}, body="")
    one = reader.read(Foreign("orders", outline, reader.longest + 1, "a" * 40), "orders")
    assert (one.run.id, one.run.function) == ("a", "orders.create")
    assert "is longer than [queue] payload_max" in one.refused.message


@pytest.mark.parametrize("outline", [b"", b'{"body": ""', b"{}"])
def test_a_message_that_was_too_long_and_names_nothing(reader, outline):
    one = reader.read(Foreign("orders", outline, reader.longest + 1, "a" * 40), "orders")
    assert (one.run.id, one.run.function) == ("a" * 32, "celery:message")
    assert "is longer than [queue] payload_max" in one.refused.message


def envelope(parts: object, *, headers: object = None, **fields: object) -> bytes:
    """A message of which some part is wrong."""
    text = parts if isinstance(parts, str) else base64.b64encode(json.dumps(parts).encode()).decode()
    whole = {
        "body": text, "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"task": "f", "id": "a"} if headers is None else headers,
        "properties": {"body_encoding": "base64"},
    }  # fmt: skip
    return json.dumps(whole | fields).encode()


GOOD = [[], {}, {}]
FORGED = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe",
    "a number": b"1",
    "a list": b"[]",
    "no message": b"{}",
    "a number for a body": envelope(GOOD, body=5),
    "no base64": envelope("!"),
    "no JSON in it": envelope(base64.b64encode(b"{").decode()),
    "no UTF-8 in it": envelope(base64.b64encode(b'[["\xff"], {}, {}]').decode()),
    "NaN": envelope(base64.b64encode(b"[[NaN], {}, {}]").decode()),
    "no task": envelope(GOOD, headers={}),
    "a task of no name": envelope(GOOD, headers={"task": "", "id": "a"}),
    "a task of another's name": envelope(GOOD, headers={"task": "flow:chain", "id": "a"}),
    "a name of many letters": envelope(GOOD, headers={"task": "f" * 300, "id": "a"}),
    "a name of two lines": envelope(GOOD, headers={"task": "f\ng", "id": "a"}),
    "a name that is a number": envelope(GOOD, headers={"task": 5}),
    "a name of half a letter": envelope(GOOD, headers={"task": "\ud800", "id": "a"}),
    "two parts": envelope([[], {}]),
    "an object for the arguments": envelope([{}, {}, {}]),
    "a list for the names": envelope([[], [], {}]),
    "a day that is none": envelope(GOOD, headers={"task": "f", "id": "a", "eta": "tomorrow"}),
    "a number for a day": envelope(GOOD, headers={"task": "f", "id": "a", "eta": 5}),
    "another encoding": envelope(GOOD, properties={"body_encoding": "rot13"}),
    "another charset": envelope(GOOD, **{"content-encoding": "utf-16"}),
    "no content type": envelope(GOOD, **{"content-type": None}),
    "a type of its own": envelope([[{"__type__": "os.system", "__value__": "true"}], {}, {}]),
    "a uuid that is none": envelope([[{"__type__": "uuid", "__value__": {"hex": "x"}}], {}, {}]),
    "depth": envelope(base64.b64encode(b"[" * 100_000).decode()),
    "depth with types": envelope(
        base64.b64encode(b"[[" + b"[" * 900 + b'{"__type__": 1}' + b"]" * 900 + b"], {}, {}").decode()
    ),
}


@pytest.mark.parametrize("content", FORGED.values(), ids=FORGED)
def test_what_is_no_task_is_refused_and_never_raises(plans, content):
    reader = Reader(plans.get, payload_max=0, max_length=0)
    one = reader.read(message(content), "orders")
    assert one.refused is not None
    assert one.refused.message.startswith("the message on 'orders' is refused: ")
    assert one.run.function in {"f", "celery:message"}


def test_a_day_before_all_others_is_past(reader):
    one = reader.read(message(envelope(GOOD, headers={"task": "f", "expires": "0001-01-01T00:00:00+14:00"})), "orders")
    assert (one.refused, one.expires) == (None, 0.0)
