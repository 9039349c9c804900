"""What mypy says of code that uses background: wrong arguments are refused, results have the function's type."""

import os
import re
from pathlib import Path

import pytest
from mypy import api

from tests.conftest import ROOT

CODE = """
from runtime import Task, TaskOutcome, background

async def send(order: str, size: int = 1) -> float:
    return 1.0

def crunch(n: int) -> bytes:
    return b""

async def named(id: int, timeout: str) -> None: ...

async def main() -> None:
    reveal_type(background.spawn(send, "o", size=2))  # N: Task[float]
    reveal_type(background.spawn(crunch, 1))  # N: Task[bytes]
    reveal_type(await background.spawn(send, "o").result(timeout="5s"))  # N: float
    background.spawn(send)  # E:
    background.spawn(send, 1)  # E:
    background.spawn(crunch, n="x")  # E:
    background.spawn(1)  # E:
    reveal_type(background.spawn(send, "o", id="x", timeout="5s"))  # N: Task[float]
    reveal_type(background.spawn(crunch, 1, timeout=5))  # N: Task[bytes]
    background.spawn(send, "o", id=1)  # E:
    reveal_type(background.using(id="x", timeout="5s").spawn(send, "o"))  # N: Task[float]
    background.using(id="x").spawn(send, 1)  # E:
    background.using(name="x")  # E:
    background.using(id="x").spawn(named, id=1, timeout="x")
    task: Task[float] = background.spawn(send, "o")
    reveal_type(await background.gather(send, ["a", "b"]))  # N: list[TaskOutcome[float]]
    reveal_type(await background.gather(crunch, [1], concurrency=2, jitter="1s"))  # N: list[TaskOutcome[bytes]]
    reveal_type(await background.in_thread(crunch, 1))  # N: bytes
    await background.in_thread(crunch, "x")  # E:
    reveal_type(await background.in_threads(crunch, [1]))  # N: list[TaskOutcome[bytes]]
    reveal_type(await background.in_process(crunch, 1))  # N: bytes
    reveal_type(await background.in_process(send, "x"))  # N: float
    await background.in_process(crunch, "x")  # E:
    reveal_type(await background.using(timeout=1).in_process(send, "x"))  # N: float
    reveal_type(await background.in_processes(send, ["x"]))  # N: list[TaskOutcome[float]]
    [one] = await background.gather(send, ["a"])
    reveal_type(one.value)  # N: float | None
    reveal_type(one.result())  # N: float
    if one.state == "timed out":  # E:
        pass
"""

_MODULES = re.compile(r"(?<=[\[\" ])(?:\w+\.)+(?=\w)")


@pytest.mark.timeout(300)  # without its cache mypy reads all of its dependencies
def test_background_is_typed_by_the_function(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(ROOT)
    file = tmp_path / "code.py"
    file.write_text(CODE)
    cache = os.environ.get("MYPY_CACHE_DIR", ".mypy_cache")
    out, errors, _ = api.run(["--config-file", "pyproject.toml", "--strict", "--cache-dir", cache, str(file)])
    assert errors == ""
    said: dict[int, list[str]] = {}
    for line in out.splitlines():
        if match := re.match(r".*code\.py:(\d+): (error|note): (.*)", line):
            said.setdefault(int(match[1]), []).append(f"{match[2][0].upper()}: {_MODULES.sub('', match[3])}")
    for number, line in enumerate(CODE.splitlines(), 1):
        _, mark, expected = line.partition("  # ")
        found = said.pop(number, [])
        kind, _, words = expected.partition(": ") if ": " in expected else (expected.rstrip(":"), "", "")
        if mark:
            assert any(one.startswith(kind) and words in one for one in found), (line, found)
        else:
            assert found == [], line
    assert said == {}
