"""kill -9 before and after each script that a chord of 100 goes through: nothing is lost, stuck, or done twice over.

The functions arm what is to die. A worker dies by its own hand, just before it asks the store to carry out that script,
or when the store has and the answer is there: nothing that comes after is done.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest

from runtime.ledger.calls import do
from tests.live_servers import until
from tests.live_workers import FAST, Runs, journal
from tests.stores import TcpStore

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

FUNCTIONS = """
    import asyncio, os, signal
    from contextlib import suppress
    from pathlib import Path
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis
    from runtime import PREVIOUS, Context, chord, queue, step
    from runtime.ledger.calls import script

    ROOT = Path(__file__).parents[1]
    ARMED = ROOT / "armed"
    JOURNAL = os.open(ROOT / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    SCRIPTS = {name: script(name) for name in ("accept_flow", "claim", "finish", "beat", "reap")}
    NAMES = {text: name for name, one in SCRIPTS.items() for text in (one.sha, one.text)}

    async def arm(ctx: Context, points: list[str]) -> None:
        os.write(JOURNAL, f"{ctx.run_id} {ctx.attempt}\\n".encode())
        mine = ROOT / f"arming {ctx.run_id} {os.getpid()}"
        while left := [point for point in points if not (ROOT / f"died {point}").exists()]:
            mine.write_text(left[0])
            try:
                os.link(mine, ARMED)  # one after the other, over all processes
                return
            except FileExistsError:
                with suppress(FileNotFoundError):
                    if ARMED.read_text() == left[0]:
                        return
            await asyncio.sleep(0.05)

    def strike(text: str, when: str) -> None:
        with suppress(FileNotFoundError):  # nothing is armed, or another was faster
            point = ARMED.read_text()
            if text in NAMES and point.startswith(f"{NAMES[text]} {when}"):
                os.rename(ARMED, ROOT / f"died {point}")
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(kind, name: str) -> None:
        real = getattr(kind, name)

        def call(self, text, *args):
            strike(text, "before")
            answer = real(self, text, *args)
            strike(text, "after")
            return answer

        async def acall(self, text, *args):
            strike(text, "before")
            answer = await real(self, text, *args)
            strike(text, "after")
            return answer

        setattr(kind, name, acall if kind is AsyncRedis else call)

    for kind in (Redis, AsyncRedis):
        for name in ("evalsha", "eval"):
            watch(kind, name)

    @queue("default")
    async def add(x: int, points: list[str], ctx: Context) -> int:
        await arm(ctx, points)
        return x

    @queue("default")
    async def total(numbers: list[int], points: list[str], ctx: Context) -> int:
        await arm(ctx, points)
        return sum(numbers)
"""
SUBMIT = """
    from functions.points import add, total
    from runtime import PREVIOUS, chord, step, submit_sync

    POINTS = {points!r}
    steps = [step.using(priority=9 - n // 11)(add, x=n, points=POINTS.get(n, [])) for n in range(100)]
    print(submit_sync.using(id="flow")(chord(steps, step(total, numbers=PREVIOUS, points=POINTS["body"]))).known)
"""
BOTH = ("before", "after")
POINTS: dict[int | str, list[str]] = {
    n: [f"{script} {when}, of step {n}"]
    for n, (script, when) in enumerate([(s, w) for s in ("claim", "finish", "beat", "reap") for w in BOTH], 5)
}
POINTS[99] = [f"finish {when}, of the last step" for when in BOTH]  # with the body in it, or before
POINTS["body"] = [f"finish {when}, of the body" for when in BOTH]
"""By step; the one armed is the first of these at which nobody has died yet."""


@pytest.fixture
def root(write_project: Callable[..., Path]) -> Path:
    return write_project(**{"functions/points.py": FUNCTIONS})


@pytest.fixture
def submits(root: Path, server: TcpStore, runs: Runs) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Submit the flow in a process of its own, which may die at a point."""
    (root / "submit.py").write_text(dedent(SUBMIT).format(points=POINTS))

    def submits(point: str = "") -> subprocess.CompletedProcess[str]:
        if point:
            (root / "armed").write_text(point)
        return subprocess.run(
            [sys.executable, "submit.py"],
            cwd=root,
            env={**os.environ, "FNRUN_STORE__URL": server.url, "PYTHONPATH": os.pathsep.join([*sys.path, str(root)])},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return submits


def died(root: Path) -> set[str]:
    """The points at which somebody has died."""
    return {path.name.removeprefix("died ") for path in root.glob("died *")}


def test_a_chord_of_100_survives_a_death_at_each_point(submits, start, server, runs, root):
    assert submits("accept_flow before").returncode == -signal.SIGKILL
    assert do(runs.client, runs.ledger.show(["flow"])) == [None]
    assert submits("accept_flow after").returncode == -signal.SIGKILL
    again = submits()
    assert again.stdout == "True\n", again.stderr

    environ = {"FNRUN_STORE__URL": server.url, "FNRUN_QUEUE__CONCURRENCY": "20", **FAST}
    served = start(root, "serve", "--only", "worker", environ=environ)  # which replaces those that die
    (view,) = runs.reach(["flow"], seconds=240)
    points = {point for of_step in POINTS.values() for point in of_step}
    until(lambda: points <= died(root), 90)  # the last may die when all is done: after the body's outcome is written
    assert (view.state, msgspec.json.decode(view.result or b"")) == ("succeeded", sum(range(100)))
    assert view.steps is not None
    assert (view.steps.total, view.steps.open, view.steps.succeeded) == (101, 0, 101)
    begun = Counter(line[0] for line in journal(root))
    assert len(begun) == 101
    assert {one.state for one in runs.show(sorted(begun))} == {"succeeded"}
    assert begun.total() - 101 <= 20 * len(points)
    assert served.stop() == 0
