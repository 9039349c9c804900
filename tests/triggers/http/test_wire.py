"""The seams of Hypercorn, h11 and h2 that are subclassed: when one moves, this says which, before a client does."""

import inspect
import re

import h2.connection
import h11
import hypercorn.protocol.h2
import hypercorn.protocol.h11
import hypercorn.protocol.http_stream
import pytest
from h2.stream import H2Stream
from h11._receivebuffer import ReceiveBuffer
from hypercorn.asyncio.worker_context import EventWrapper
from hypercorn.config import Config
from hypercorn.protocol.h2 import H2Protocol, StreamBuffer
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream

from runtime.triggers.http.wire.requests import Refused, Surroundings, judge_host, judge_target


def test_the_constructors_are_as_they_were():
    ends = ["ssl", "client", "server", "send"]
    shared = ["self", "app", "config", "context", "task_group"]
    assert list(inspect.signature(H11Protocol.__init__).parameters) == [*shared, "connection_state", *ends]
    assert list(inspect.signature(H2Protocol.__init__).parameters) == [*shared, "connection_state", *ends]
    assert list(inspect.signature(HTTPStream.__init__).parameters) == [*shared, *ends, "stream_id"]


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (
            H11Protocol,
            ["handle", "stream_send", "_handle_events", "_send_h11_event", "_maybe_recycle", "_close_stream"],
        ),
        (H2Protocol, ["handle", "initiate", "stream_send", "send_task", "idle", "_flush", "_handle_events"]),
        (H2Protocol, ["_send_data", "_close_stream", "_window_updated"]),
        (StreamBuffer, ["push", "pop", "close", "drain", "set_complete", "complete"]),
        (HTTPStream, ["handle", "app_send", "_send_error_response"]),
        (ReceiveBuffer, ["maybe_extract_lines", "maybe_extract_next_line", "_extract"]),
        (H2Stream, ["open"]),
        (Config, ["log", "response_headers"]),
    ],
)
def test_what_is_overridden_or_called_is_there(owner: type, names: list[str]):
    assert [name for name in names if not hasattr(owner, name)] == []


def test_the_attributes_that_are_set_or_read_are_there():
    connection = h11.Connection(h11.SERVER)
    assert isinstance(connection._receive_buffer, ReceiveBuffer)
    assert connection._request_method is None
    assert {"_data", "_multiple_lines_search"} <= vars(ReceiveBuffer()).keys()
    assert {"streams", "decoder", "local_settings"} <= vars(h2.connection.H2Connection()).keys()
    assert {"buffer", "_complete"} <= vars(StreamBuffer(Surroundings.event_class)).keys()


def test_hypercorn_asks_no_more_of_its_worker_than_ours_has():
    wanted = set()
    for module in (hypercorn.protocol.h11, hypercorn.protocol.h2, hypercorn.protocol.http_stream):
        wanted |= set(re.findall(r"\bcontext\.(\w+)", inspect.getsource(module)))
    assert wanted == {"event_class", "mark_request", "terminated"}
    assert {name for name in wanted if not hasattr(Surroundings(), name)} == set()
    asked = {name for name in vars(EventWrapper) if not name.startswith("_")}
    assert {name for name in asked if not hasattr(Surroundings.event_class, name)} == set()


def test_hypercorn_still_asks_its_task_group_for_the_application_alone():
    assert "self.task_group.spawn_app(" in inspect.getsource(HTTPStream.handle)


@pytest.mark.parametrize(
    ("method", "target", "found"),
    [
        ("GET", b"/a?b", (b"/a?b", None)),
        ("OPTIONS", b"*", (b"*", None)),
        ("GET", b"http://a:1", (b"/", b"a:1")),
        ("GET", b"https://a?b", (b"/?b", b"a")),
    ],
)
def test_a_target_is_a_path_and_perhaps_a_host(method: str, target: bytes, found: tuple):
    assert judge_target(method, target) == found


@pytest.mark.parametrize("host", [None, b"", b"a b", b"[::1", b"a:b", b"a]", b"a,b c"])
def test_a_host_that_is_none_is_refused(host: bytes | None):
    with pytest.raises(Refused):
        judge_host(host)
