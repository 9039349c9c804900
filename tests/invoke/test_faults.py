"""Errors of another process: the same to whoever catches or shows them, made without running anything."""

import asyncio

import pytest

from runtime.base.errors import InputError, Problem, QueueFull
from runtime.declare.policies import GiveUp, RetryAfter
from runtime.invoke.isolation.faults import Fault, error_of, fault_of, said_of

made = []


class Own(ValueError):  # noqa: N818
    def __init__(self, article, count):
        made.append(article)
        super().__init__(article)
        self.count = count
        self.handle = object()


class Said(Exception):  # noqa: N818
    def __str__(self):
        return f"said {self.part}"


class Mute(Exception):  # noqa: N818
    def __str__(self):
        raise SystemExit


class Odd(Exception):  # noqa: N818
    def __new__(cls, *args):
        made.append("odd")
        return super().__new__(cls, *args)


def again(error):
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001
        return error_of(fault_of(raised))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError("a"),
        FileNotFoundError(2, "no such file", "x.txt"),
        SystemExit(3),
        KeyboardInterrupt(),
        MemoryError(),
        asyncio.CancelledError("by itself"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ZeroDivisionError(1, (2, "three")),
        RuntimeError(object()),
        GiveUp("enough"),
        Problem(409, "taken", detail="by another", headers={"x-a": 1}),
        InputError(422, "unfit", [{"in": "body", "name": "a", "path": "$", "detail": "b"}]),
        QueueFull("orders", 10, ["a"]),
        Own("x1", 3),
        Mute(),
        Odd("a"),
        ExceptionGroup("several", [ValueError("a")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_again(error):
    made.clear()
    found = again(error)
    assert type(found).__name__ == type(error).__name__
    assert said_of(found)[0] == said_of(error)[0]
    assert "test_faults.py" in said_of(found)[1]
    assert isinstance(found, type(error)) or type(error) in (Odd, ExceptionGroup)
    assert made == []


def test_attributes_that_json_can_say_come_along():
    assert again(Own("x1", 3)).count == 3
    assert not hasattr(again(Own("x1", 3)), "handle")
    assert again(RetryAfter("30s")).delay_seconds == 30
    problem = again(Problem(409, "taken", detail="by another", headers={"x-a": 1}))
    assert (problem.status, problem.title, problem.fields, problem.headers) == (
        409,
        "taken",
        {"detail": "by another"},
        {"x-a": 1},
    )
    assert again(OSError(13, "denied")).errno == 13
    said = Said()
    said.part = "this"
    assert str(again(said)) == "said this"


def test_a_class_that_is_known_there_alone_is_of_the_nearest_that_is_known_here():
    local = type("Local", (Own,), {"__module__": "nowhere"})
    found = again(local("x1", 3))
    assert (type(found).__name__, str(found), isinstance(found, Own)) == ("Local", "x1", True)
    assert type(again(local("x2", 3))) is type(found)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(classes=[], message="m", traceback=""),
        Fault(classes=[("os", "system")], message="m", traceback=""),
        Fault(classes=[("builtins", "ValueError")], message="m", traceback="", args=b"\xc1", attributes=b"\xc1"),
        Fault(classes=[("builtins", "ValueError")], message="m", traceback="", attributes=b"\x81\xa9__class__\x01"),
        Fault(classes=[("", ""), ("builtins", "__dict__"), ("sys", "modules.x")], message="m", traceback=""),
    ],
)
def test_nonsense_is_an_error_still(fault):
    found = error_of(fault)
    assert isinstance(found, Exception)
    assert str(found) == "m"
