"""What mypy says of code that submits: wrong arguments are refused, results have the function's type."""

import os
import re
from pathlib import Path

import pytest
from mypy import api

from tests.conftest import ROOT

CODE = """
from runtime import INJECTED, Context, PlainText, Run, RunFailed, SyncRun, queue, submit, submit_sync
from runtime import PREVIOUS, chain, chord, group, step

@queue("orders")
async def create(customer: str, size: int = 1, ctx: Context = INJECTED) -> float:
    return 1.0

@queue()
def tidy(name: str) -> PlainText:
    return name

async def main() -> None:
    run = await submit(create, customer="c", size=2)
    await submit(create, "c")
    reveal_type(run)  # N: Revealed type is "Run[float]"
    reveal_type(await run.result(timeout="5s"))  # N: Revealed type is "float"
    reveal_type(await run.result(propagate=False))  # N: Revealed type is "float | RunFailed"
    await submit(create, size=2)  # E:
    await submit(create, customer=1)  # E:
    await submit(create, customer="c", sise=2)  # E:
    await submit(1)  # E:
    later = submit.using(delay="5m", priority=3, max_age=None)
    reveal_type(await later(tidy, name="x"))  # N: Revealed type is "Run[str]"
    await later(tidy)  # E:
    submit.using(prio=3)  # E:
    submit.using(priority="high")  # E:
    reveal_type(await submit.many(create, [{"customer": "c"}]))  # N: Revealed type is "list[Run[float]]"
    await submit.many(create, ["c"])  # E:
    by_name = await submit("orders.create", anything=1)
    reveal_type(await by_name.result())  # N: Revealed type is "Any"
    known: Run[float] = Run("id")

async def flows() -> None:
    first = step(create, customer="c", size=2)
    second = step(tidy, name=PREVIOUS)
    reveal_type(first)  # N: Revealed type is "Step[float]"
    step(create, "c", PREVIOUS)
    step(create, size=PREVIOUS)  # E:
    step(create, customer=1)  # E:
    step(tidy, name=PREVIOUS, nome=PREVIOUS)  # E:
    step(1)  # E:
    step.using(queue="q", priority=3, delay="5s", max_age=60)(create, "c")
    step.using(id="x")  # E:
    step.using(queue="q")(create)  # E:
    reveal_type(chain(first, second))  # N: Revealed type is "Flow[str]"
    reveal_type(chain(second, chain(second, first)))  # N: Revealed type is "Flow[float]"
    reveal_type(chain(*[first, first]))  # N: Revealed type is "Flow[float]"
    reveal_type(chain(step("any.name"), first))  # N: Revealed type is "Flow[Any]"
    reveal_type(group(first, first))  # N: Revealed type is "Flow[list[float]]"
    reveal_type(group(*(step(tidy, name=n) for n in "abc")))  # N: Revealed type is "Flow[list[str]]"
    reveal_type(group(first, collect=True))  # N: Revealed type is "Flow[list[Any]]"
    reveal_type(chord([first, second, group(first)], second))  # N: Revealed type is "Flow[str]"
    chain(tidy)  # E:
    chord(first, second)  # E:
    chord([tidy], second)  # E:
    run = await submit(chain(first, second))
    reveal_type(run)  # N: Revealed type is "Run[str]"
    reveal_type(await submit.using(id="x")(group(first)))  # N: Revealed type is "Run[list[float]]"
    await submit(chain(first), x=1)  # E:
    await submit(first)  # E:

def script() -> None:
    reveal_type(submit_sync(chain(step(tidy, name="x"))).result())  # N: Revealed type is "str"
    run = submit_sync(create, customer="c")
    reveal_type(run)  # N: Revealed type is "SyncRun[float]"
    reveal_type(run.result())  # N: Revealed type is "float"
    submit_sync(create, customer=1)  # E:
    submit_sync.using(priority=3)(tidy, name=1)  # E:
    reveal_type(submit_sync.many(tidy, [{"name": "x"}]))  # N: list[SyncRun[str]]
"""

_MODULES = re.compile(r"(?<=[\[\" ])(?:\w+\.)+(?=\w)")


@pytest.mark.timeout(300)  # without its cache mypy reads all of its dependencies
def test_submit_is_typed_by_the_function(tmp_path: Path, monkeypatch):
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
