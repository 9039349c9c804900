"""The store of tests: one private embedded server a process, and in it a namespace for each harness.

Used by the harness. The server is started by the first one, which takes about 0.1 s, and ends with the process.
"""

import atexit
import fcntl
import os
import shutil
import tempfile
import time
from itertools import count
from pathlib import Path
from threading import Lock

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from runtime.base.keeper import KEEPER, lock_file
from runtime.base.keys import STATE_FOLDER
from runtime.base.sections import StoreSettings
from runtime.base.store import Store

_END_SECONDS = 5.0
_POLL_SECONDS = 0.005

_opening = Lock()
_opened: list[Store] = []
_numbers = count(1)


class LentStore:
    """A namespace of its own in the store of this process. `close` empties it."""

    def __init__(self) -> None:
        """Blocks while the server starts. StartError."""
        self._store = _store()
        self.namespace = f"harness-{next(_numbers)}"
        self.durability = self._store.durability
        self.broker_url = self._store.broker_url

    def connect(self) -> Redis:
        """A client for code without a loop."""
        return self._store.connect()

    def connect_async(self) -> AsyncRedis:
        """A client for one event loop."""
        return self._store.connect_async()

    def close(self) -> None:
        """Forget everything in it."""
        with self.connect() as client:
            keys = list(client.scan_iter(match=f"{self.namespace}:*", count=10_000))
            if keys:
                client.unlink(*keys)


def _store() -> Store:
    with _opening:
        if not _opened:
            folder = Path(tempfile.mkdtemp(prefix="fnrun-"))
            store = Store.open(folder, StoreSettings())
            atexit.register(_end, store, folder)
            _opened.append(store)
        return _opened[0]


def _end(store: Store, folder: Path) -> None:
    """Close the store, and remove its folder once the server has ended: it is still at its files until then."""
    store.close()
    lock = folder / STATE_FOLDER / "store" / KEEPER
    deadline = time.monotonic() + _END_SECONDS
    while (found := lock_file(str(lock), fcntl.LOCK_EX | fcntl.LOCK_NB)) is None:
        if time.monotonic() > deadline:
            return
        time.sleep(_POLL_SECONDS)
    os.close(found)
    shutil.rmtree(folder, ignore_errors=True)
