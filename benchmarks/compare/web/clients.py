"""The load: wrk where it is installed, load.py where it is not, bodies.py for large bodies, storm.py for a fixed rate.

Called by web.measure. Each client is a process of its own, on the client's core, and prints one line of JSON.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.compare.environments import BENCHMARKS
from benchmarks.compare.processes import HOST, BenchmarkError, pinned
from benchmarks.compare.web.cases import BODIES, Asked

WRK = shutil.which("wrk")


def count_requests(core: int | None, port: int, asked: Asked, connections: int, seconds: float) -> float:
    """Requests a second; `seconds` whole ones where wrk counts."""
    request = [asked.method, asked.path, *([asked.body] if asked.body else [])]
    command = [sys.executable, "-P", str(BENCHMARKS / "load.py"), str(port), str(connections), str(seconds), *request]
    if WRK:
        settings = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(BENCHMARKS / "wrk.lua")]
        command = [WRK, *settings, f"http://{HOST}:{port}", "--", *request]
    found = _run(core, command, seconds)
    if found["errors"] or not found["requests"]:
        raise BenchmarkError(f"{asked.method} {asked.path} fails under load: {found}")
    return float(found["requests"] / found["seconds"])


def count_megabytes(core: int | None, port: int, case: str, asked: Asked, seconds: float) -> float:
    """Megabytes of bodies a second."""
    size = BODIES[case]
    command = [str(BENCHMARKS / "bodies.py"), str(port), str(seconds), asked.method, asked.path, asked.body]
    found = _run(core, [sys.executable, "-P", *command], seconds)
    return float(found["requests"] * size / 1e6 / found["seconds"])


def measure_lateness(core: int | None, port: int, pid: int, asked: Asked, rate: float, seconds: float) -> float:
    """The 99th percentile in ms of answers to so many requests a second, counted from when each was to be sent."""
    settings = [str(port), str(pid), asked.path, f"{rate:.0f}", str(seconds + 1), "64"]
    found = _run(core, [sys.executable, "-P", str(BENCHMARKS / "storm.py"), *settings], seconds + 2)
    if found["errors"] or set(found["statuses"]) - {"200"}:
        raise BenchmarkError(f"{asked.path} fails at {rate:.0f}/s: {found}")
    p99: float = found["accepted_ms"][1]
    return p99


def _run(core: int | None, command: Sequence[str], seconds: float) -> dict[str, Any]:
    with pinned(core):
        output = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if output.returncode:
        raise BenchmarkError(f"the load client failed: {output.stderr.strip() or output.stdout.strip()}")
    found: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return found
