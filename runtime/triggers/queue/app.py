"""The Celery app of a project: its functions as tasks, JSON only, every key under the namespace.

Used by the worker and by `fnrun celery`. Reads no configuration of Celery's own: neither celeryconfig.py nor CELERY_*
variables, which may be another program's.
"""

import ssl
from collections.abc import Iterable, Sequence
from typing import Any

from celery import Celery
from kombu import Queue
from typing_extensions import override

from runtime.declare.registry import DEFAULT_QUEUE
from runtime.triggers.queue.crew import Crew
from runtime.triggers.queue.strategy import RunTask
from runtime.triggers.queue.transport import NAME

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 5.0
_HEALTH_SECONDS = 5


class App(Celery):  # type: ignore[misc]  # Celery has no types
    """crew: of the worker in this process, if there is one; drain_seconds: for its end."""

    crew: Crew | None = None
    drain_seconds = 25.0

    def __init__(self, broker_url: str, namespace: str) -> None:
        super().__init__("fnrun", loader="celery.loaders.app:AppLoader", fixups=[], set_as_current=True)
        self._broker_url = broker_url.replace("redis+socket://", f"{NAME}+socket://", 1)
        self.conf.update(_settings(self._broker_url, namespace))

    @override
    def connection_for_read(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_read(url or self._broker_url, **options)

    @override
    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_write(url or self._broker_url, **options)

    def adopt(self, functions: Iterable[str], queues: Sequence[str]) -> None:
        """Know these functions as tasks, and no others."""
        names = set(functions)
        for name in [name for name, task in self.tasks.items() if isinstance(task, RunTask) and name not in names]:
            del self.tasks[name]
        for name in sorted(names - self.tasks.keys()):
            self.register_task(_task_of(name))
        self.conf.task_queues = [Queue(name, routing_key=name) for name in queues]


def _task_of(name: str) -> Any:
    kind: Any = type(name, (RunTask,), {"name": name, "abstract": False, "__module__": RunTask.__module__})
    return kind()


def _settings(broker_url: str, namespace: str) -> dict[str, Any]:
    secure = {"ssl_cert_reqs": ssl.CERT_REQUIRED} if broker_url.startswith("rediss://") else None
    return {
        "broker_url": broker_url,
        "broker_transport": NAME,
        "broker_use_ssl": secure,
        "broker_connection_timeout": _CONNECT_SECONDS,
        "broker_connection_max_retries": None,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_channel_error_retry": True,
        "broker_transport_options": {
            "global_keyprefix": f"{namespace}:celery:",
            "socket_timeout": _ANSWER_SECONDS,
            "socket_connect_timeout": _CONNECT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": _HEALTH_SECONDS,
        },
        "result_backend": None,
        "task_ignore_result": True,
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_serializer": "json",
        "event_serializer": "json",
        "task_default_queue": DEFAULT_QUEUE,
        "task_create_missing_queues": True,
        "task_protocol": 2,
        "enable_utc": True,
        "worker_consumer": "runtime.triggers.queue.consumer:Consumer",
        "worker_pool": "runtime.triggers.queue.pool:Pool",
        "worker_prefetch_multiplier": 0,
        "worker_disable_rate_limits": True,
        "worker_enable_prefetch_count_reduction": False,
        "worker_detect_quorum_queues": False,
        # Where it is not said, Celery warns at each lost connection. Our tasks are not acks_late: none is cancelled.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
    }
