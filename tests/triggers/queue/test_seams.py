"""Canaries: what of Celery's and kombu's insides the worker stands on. The one that fails says which seam has moved."""

import inspect
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable

import pytest
from celery import Celery
from celery.app.amqp import AMQP
from celery.app.task import Task
from celery.concurrency.base import BasePool
from celery.events.dispatcher import EventDispatcher
from celery.worker import WorkController, components, loops, state
from celery.worker.consumer import Consumer
from celery.worker.consumer import events as events_step
from celery.worker.control import Panel
from kombu.asynchronous import Hub
from kombu.messaging import Consumer as KombuConsumer
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as stock
from kombu.transport.virtual import base as virtual
from kombu.transport.virtual.base import QoS

from runtime.triggers.queue.app import App
from runtime.triggers.queue.clients import control
from runtime.triggers.queue.clients.draining import keys_of
from runtime.triggers.queue.strategy import RunRequest, RunTask
from runtime.triggers.queue.transport import Channel, RunMessage, Transport


def parameters(function: Callable) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize(
    ("function", "takes"),
    [
        (stock.Channel._brpop_start, ["timeout"]),
        (stock.Channel._brpop_read, ["options"]),
        (stock.Channel._connparams, ["asynchronous"]),
        (stock.Channel._create_client, ["asynchronous"]),
        (stock.Channel._disconnect_pools, []),
        (stock.Channel.basic_consume, ["queue", "args", "kwargs"]),
        (stock.Channel.message_to_python, ["raw_message"]),
        (stock.Channel.close, []),
        (stock.Transport.register_with_event_loop, ["connection", "loop"]),
        (QoS.append, ["message", "delivery_tag"]),
        (QoS.ack, ["delivery_tag"]),
        (QoS.reject, ["delivery_tag", "requeue"]),
        (QoS.can_consume, []),
        (BasePool.on_stop, []),
        (BasePool.on_terminate, []),
        (BasePool.register_with_event_loop, ["loop"]),
        (BasePool._get_info, []),
        (Consumer.connect, []),
        (Consumer.ensure_connected, ["conn"]),
        (Consumer.on_connection_error_before_connected, ["exc"]),
        (Consumer.on_connection_error_after_connected, ["exc"]),
        (Consumer.update_strategies, []),
        (WorkController.on_consumer_ready, ["consumer"]),
        (WorkController.stats, []),
        (Task.start_strategy, ["app", "consumer", "kwargs"]),
        (Celery.connection_for_read, ["url", "kwargs"]),
        (Celery.connection_for_write, ["url", "kwargs"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_what_we_override_is_called_as_it_was(function, takes):
    assert parameters(function) == takes


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (stock.MultiChannelPoller._register_BRPOP, "if not channel._in_poll:"),
        (stock.MultiChannelPoller._register_BRPOP, "channel._brpop_start()"),
        (stock.MultiChannelPoller.maybe_check_brpop_health, "channel._brpop_sent_at"),
        (stock.Channel.__init__, "'BRPOP': self._brpop_read"),
        (stock.Channel.basic_consume, "super().basic_consume(queue, *args, **kwargs)"),
        (KombuConsumer._receive_callback, "getattr(channel, 'message_to_python', None)"),
        (Consumer.create_task_handler, "message.headers['task']"),
        (Consumer.create_task_handler, "message.reject_log_error"),
        (Consumer.on_unknown_task, "message.reject_log_error("),
        (components.Pool.create, "app=w.app"),
        (components.Consumer.create, "w.consumer_cls"),
        (loops.asynloop, "obj.controller.register_with_event_loop(hub)"),
        (loops.asynloop, "state.maybe_shutdown()"),
        (state.maybe_shutdown, "should_stop"),
        (events_step.Events.start, "request.eventer = dis"),
        (EventDispatcher.send, "self.groups"),
        (stock.Channel._put, "client.lpush(key, dumps(message))"),
        (stock.Channel._q_for_pri, 'f"{queue}{self.sep}{pri}"'),
        (virtual.Channel._inplace_augment_message, "body_encoding=body_encoding"),
        (AMQP.as_task_v2, "'correlation_id': task_id"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_what_calls_us_still_does(function, says):
    assert says in inspect.getsource(function)


def test_celery_has_the_commands_that_are_replaced_and_kombu_the_lists_that_are_drained():
    before = dict(Panel.data)
    try:
        control.install()
        replaced = {name for name in Panel.data if Panel.data[name] is not before.get(name)}
    finally:
        Panel.data.update(before)
    assert replaced <= before.keys()
    assert {"revoke", "terminate", "rate_limit"} <= replaced
    assert keys_of("", "q")[3] == f"q{stock.Channel.sep}3"


def test_state_has_the_sets_that_inspect_shows():
    request = RunRequest.__new__(RunRequest)
    for name in ("id", "name", "info", "terminate", "hostname", "time_start", "acknowledged"):
        assert hasattr(RunRequest, name)
    request.eventer = None
    assert "add_to_total_count({request.name: 1})" in inspect.getsource(state.task_accepted)
    assert "discard_active_request(request)" in inspect.getsource(state.task_ready)
    assert isinstance(state.requests, dict)
    assert isinstance(state.total_count, Counter)


def test_a_message_has_all_that_kombu_and_celery_ask_of_one():
    seams = (KombuConsumer._receive_callback, Consumer.create_task_handler, Consumer.on_unknown_task)
    asked = {name for one in seams for name in re.findall(r"\bmessage\.(\w+)", inspect.getsource(one))}
    asked -= {"payload", "decode", "_reraise_error"}  # of what is not decoded yet, or is wrong
    assert {name for name in asked if not hasattr(RunMessage, name)} == set()


def test_the_hub_can_be_woken_from_another_thread():
    hub = Hub()
    called = threading.Event()
    hub.call_later(5, lambda: None)
    turn = hub.create_loop()
    next(turn)
    threading.Timer(0.05, lambda: hub.call_soon(called.set)).start()
    for _ in range(3):
        if not called.is_set():
            next(turn)
    assert called.is_set()
    hub.close()


def test_our_transport_has_a_name_and_the_channel_is_ours():
    assert TRANSPORT_ALIASES["fnrun"] == "runtime.triggers.queue.transport:Transport"
    assert Transport.Channel is Channel
    assert Transport.feed is None


def test_an_app_takes_nothing_from_the_environment(monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere:1/0")
    monkeypatch.setenv("CELERY_BROKER_READ_URL", "redis://elsewhere:1/0")
    monkeypatch.setenv("CELERY_BROKER_WRITE_URL", "redis://elsewhere:1/0")
    app = App("redis+socket:///tmp/here.sock?virtual_host=0", "ns")
    for connection in (app.connection_for_read(), app.connection_for_write()):
        assert connection.hostname.endswith("socket:///tmp/here.sock?virtual_host=0")
        assert connection.transport_cls == "fnrun"
        assert connection.transport_options["global_keyprefix"] == "ns:celery:"
    assert app.conf.accept_content == ["json"]
    assert app.conf.result_backend is None


def test_an_app_knows_the_functions_it_is_told_of():
    app = App("redis://127.0.0.1:1/0", "ns")
    app.adopt(["a.b", "c"], ["default", "mails"])
    first = app.tasks["a.b"]
    assert isinstance(first, RunTask)
    app.adopt(["a.b", "d"], ["default"])
    assert [name for name in sorted(app.tasks) if not name.startswith("celery.")] == ["a.b", "d"]
    assert app.tasks["a.b"] is first


def test_a_secure_address_is_verified():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connection = App("rediss://127.0.0.1:1/0", "ns").connection_for_read()
    assert connection.ssl["ssl_cert_reqs"].name == "CERT_REQUIRED"
