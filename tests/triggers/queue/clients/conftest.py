"""A store that real clients of Celery's push to, beside a ledger in it."""

from collections.abc import Iterator

import pytest
from celery import Celery
from redis import Redis

from tests.celery_clients import celery_client, socket_url
from tests.ledger.conftest import client, trial  # noqa: F401 - fixtures


@pytest.fixture
def app(client: Redis) -> Iterator[Celery]:  # noqa: F811
    with celery_client(socket_url(client)) as app:
        yield app
