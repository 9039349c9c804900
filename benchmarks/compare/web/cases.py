"""What is asked of the servers, and the answer each must give.

Called by web.measure. Kinds: "rate", as many requests as it answers from so many connections; "bytes", the same with
large bodies; "late", at a rate that is fixed; the rest is seen from outside.
"""

import json
from typing import NamedTuple

from benchmarks.compare.processes import BenchmarkError
from benchmarks.compare.results import Case
from benchmarks.load import ask


class Asked(NamedTuple):
    """One request, and the JSON or the number of bytes it is answered with. body: "@N" for N bytes."""

    method: str
    path: str
    body: str
    answer: dict[str, object] | int


HELLO = {"message": "Hello x"}
ASKED = {
    "get": Asked("GET", "/hello?name=x", "", HELLO),
    "post": Asked("POST", "/sum", '{"x": 2, "y": 3.5}', {"result": 5.5}),
    "sync": Asked("GET", "/hello-sync?name=x", "", HELLO),
    "routes": Asked("GET", "/r500?name=x", "", HELLO),
    "stream": Asked("GET", "/stream", "", 100_000),
    "up-100kB": Asked("POST", "/size", "@100000", {"size": 100_000}),
    "down-100kB": Asked("GET", "/blob?size=100000", "", 100_000),
    "up-10MB": Asked("POST", "/size", "@10000000", {"size": 10_000_000}),
    "down-10MB": Asked("GET", "/blob?size=10000000", "", 10_000_000),
}
RATES = ("get", "post", "sync", "routes", "stream")
BODIES = {"up-100kB": 100_000, "down-100kB": 100_000, "up-10MB": 10_000_000, "down-10MB": 10_000_000}
LATE_SERVERS = ("fnrun", "starlette", "fastapi", "blacksheep", "robyn", "uvicorn")
LIMITS_DO = ("get", "post", "late", *BODIES)
"""What is measured of a server that shows a limit only."""
LARGE_SERVERS = ("fnrun", "starlette", "fastapi", "blacksheep", "robyn", "flask", "uvicorn", "bare")
QUICK = ("get", "post", "start", "memory")
TWICE = ("routes", "stream", "idle", *BODIES)
"""What is measured in two rounds at most: it takes long, and is not what most ask for."""

CASES = {
    "get": Case("GET, one query parameter", "requests/s"),
    "post": Case("POST, validated JSON", "requests/s"),
    "sync": Case("GET, plain `def` handler", "requests/s"),
    "routes": Case("GET, one of 1,000 routes", "requests/s"),
    "stream": Case("Stream of 100 parts of 1 kB", "streams/s"),
    "up-100kB": Case("Upload, 100 kB", "MB/s"),
    "down-100kB": Case("Download, 100 kB", "MB/s"),
    "up-10MB": Case("Upload, 10 MB", "MB/s"),
    "down-10MB": Case("Download, 10 MB", "MB/s"),
    "late": Case("GET at a fixed rate, p99", "ms", less=True),
    "start": Case("Start to first answer", "s", less=True),
    "memory": Case("Memory, idle", "MB", less=True),
    "idle": Case("Memory of an idle connection", "kB", less=True),
}
REFUSED = '{"x": "no number", "y": 3.5}'  # every server validates: POST /sum answers this with a 4xx


def belongs(case: str, server: str, *, limit: bool, without: tuple[str, ...]) -> bool:
    """Whether a case is measured of a server."""
    if case in without or (limit and case not in LIMITS_DO):
        return False
    if case == "late":
        return server in LATE_SERVERS
    return case not in BODIES or server in LARGE_SERVERS


def check(port: int, cases: list[str], *, validates: bool) -> None:
    """That each answer is right, to the last byte."""
    try:
        for name in cases:
            asked = ASKED[name]
            status, body = ask(port, asked.method, asked.path, asked.body)
            if isinstance(asked.answer, int):
                right = body == b"x" * asked.answer
            else:
                right = status == 200 and json.loads(body) == asked.answer
            if status != 200 or not right:
                raise BenchmarkError(f"{asked.method} {asked.path} answers {status} {body[:200]!r}")
        status, body = ask(port, "POST", "/sum", REFUSED) if validates else (422, b"")
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"it does not answer as HTTP should: {error!r}") from None
    if not 400 <= status <= 499:
        raise BenchmarkError(f"POST /sum takes {REFUSED}: {status} {body!r}")
