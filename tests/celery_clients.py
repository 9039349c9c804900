"""Programs that know Celery alone: real clients of it, which push what Celery pushes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from redis import Redis

PREFIX = "fnrun:celery:"
"""What a client says as global_keyprefix to be seen by `inspect`, too."""


@contextmanager
def celery_client(url: str, prefix: str = "", **conf: Any) -> Iterator[Celery]:
    """An app with a broker and nothing else."""
    app = Celery("client", broker=url, set_as_current=False)
    options = {"global_keyprefix": prefix} if prefix else {}
    app.conf.update(broker_transport_options=options, task_default_queue="default", **conf)
    try:
        yield app
    finally:
        app.close()


def socket_url(client: Redis) -> str:
    """Where the store is, as kombu says it."""
    return f"redis+socket://{client.get_connection_kwargs()['path']}?virtual_host=0"
