"""Fixtures of the tests of the admin API."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from runtime.ledger.desk import Desk
from runtime.projects import load_project
from tests.conftest import client_of


@pytest.fixture
async def local(root: Path, desk: Desk, log: object) -> AsyncIterator[httpx.AsyncClient]:
    """A caller who may do all with the project `root`."""
    async with client_of(load_project(root), desk=desk, open_locally=True) as client:
        yield client
