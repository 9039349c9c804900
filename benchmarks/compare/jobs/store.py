"""The store that all queues share: a Valkey of its own, over TCP, with its append-only file on.

Called by jobs.measure. It is emptied between two measurements and gone at the end.
"""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from benchmarks.compare import processes
from benchmarks.compare.processes import HOST, BenchmarkError
from runtime.base.embedded import find_server

_START_SECONDS = 15


@contextmanager
def serve_store() -> Iterator[tuple[str, "redis.Redis"]]:
    """Its URL, and a client."""
    with tempfile.TemporaryDirectory(prefix="fnrun-bench-", ignore_cleanup_errors=True) as folder:
        port = processes.free_port()
        options = {
            "bind": HOST, "port": str(port), "dir": folder, "save": "", "appendonly": "yes", "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }  # fmt: skip
        command = [find_server(), *(word for name, value in options.items() for word in (f"--{name}", value))]
        process = processes.start(command, Path(folder) / "log", Path(folder), processes.clean_environ())
        client = redis.Redis(HOST, port)
        try:
            _wait_until_up(process, client)
            if client.config_get("appendonly")["appendonly"] != "yes":
                raise BenchmarkError("the store has no append-only file")
            yield f"redis://{HOST}:{port}/0", client
        finally:
            client.close()
            processes.stop(process)


def _wait_until_up(process: "subprocess.Popen[bytes]", client: "redis.Redis") -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.02)
            continue
        return
    raise BenchmarkError("the store does not start")
