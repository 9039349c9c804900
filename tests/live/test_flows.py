"""Flows under real workers: large ones, nested ones, ones that fail, are cancelled and go on; and kill -9 meanwhile."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime import PREVIOUS, RunFailed, chain, chord, group, step, submit_sync
from runtime.ledger.flows.steps import Flow
from runtime.ledger.ledger import Ledger
from runtime.ledger.run import SyncRun
from tests.desks import desk_in_use
from tests.keys import bearer, key_for
from tests.live_servers import until
from tests.live_workers import Runs, journal, wait_for_lines
from tests.stores import TcpStore

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

FUNCTIONS = """
    import asyncio, os
    from pathlib import Path
    from runtime import PREVIOUS, Context, chain, chord, fn, http, queue, step, submit, submit_sync

    ROOT = Path(__file__).parents[1]
    JOURNAL = os.open(ROOT / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(ctx):
        os.write(JOURNAL, f"{ctx.run_id} {ctx.attempt}\\n".encode())

    @queue("default")
    async def add(x: int, ctx: Context, y: int = 0, seconds: float = 0.0) -> int:
        note(ctx)
        await asyncio.sleep(seconds)
        return x + y

    @queue("default")
    def total(numbers: list[int], ctx: Context) -> int:
        note(ctx)
        return sum(numbers)

    @queue("default")
    @fn(retries=1)
    async def want(file: str, ctx: Context) -> str:
        note(ctx)
        if not (ROOT / file).exists():
            raise LookupError(f"{file} is not there")
        return file

    @queue("default")
    async def nap(ctx: Context) -> None:
        note(ctx)
        await asyncio.sleep(600)

    @queue("default")
    @fn(isolation="process")
    def apart(ctx: Context) -> list[str]:
        run = submit_sync(chain(step(add, x=1), step(add, x=PREVIOUS, y=2)))
        return [run.id, ctx.run_id]

    @http.post("/squares", auth="public")
    async def squares(upto: int) -> list[int | str]:
        run = await submit(chord([step(add, x=n) for n in range(upto)], step(total, numbers=PREVIOUS)))
        return [run.id, await run.result("60s")]
"""


@pytest.fixture
def root(write_project: Callable[..., Path]) -> Path:
    return write_project(**{"functions/sums.py": FUNCTIONS})


@pytest.fixture
def submitted(server: TcpStore, runs: Runs) -> Iterator[Callable[[Flow[Any]], SyncRun[Any]]]:
    """Submits a flow as a script does that knows functions by name alone."""
    namespace = server.settings.namespace
    with desk_in_use(server.url, namespace, Ledger(namespace)):
        yield submit_sync


def add(x: Any, **more: Any) -> Any:
    return step("sums.add", x=x, **more)


def executions(root: Path, run_id: str) -> int:
    return sum(line[0] == run_id for line in journal(root))


def test_a_chord_of_100_is_served(root, server, runs, start):
    headers = bearer(key_for(root, "read"))
    served = start(root, "serve", "--bind", "127.0.0.1:0", environ={"FNRUN_STORE__URL": server.url}, roles=None)
    with httpx.Client(base_url=f"http://127.0.0.1:{served.port}", timeout=90) as client:
        run_id, total = client.post("/squares", data={"upto": "100"}).json()
        assert total == sum(range(100))
        assert client.get(f"/_/runs/{run_id}").status_code == 401
        shown = client.get(f"/_/runs/{run_id}", headers=headers).json()
        assert shown["steps"] == {"total": 101, "open": 0, "succeeded": 101, "failed": 0, "cancelled": 0}
        assert (shown["function"], shown["state"], shown["result"]) == ("flow:chord", "succeeded", total)
        assert (len(shown["children"]), shown["more_children"]) == (100, True)
        page = client.get("/_/runs", params={"parent": run_id, "limit": 1000}, headers=headers).json()
    assert len(page["runs"]) == 101
    assert {one["parent"] for one in page["runs"]} == {run_id}
    assert {executions(root, one["id"]) for one in page["runs"]} == {1}
    assert served.stop() == 0


def test_flows_stand_in_flows(submitted, start_worker):
    start_worker()
    inner = chord([add(n) for n in range(10)], chain(step("sums.total", numbers=PREVIOUS), add(PREVIOUS, y=1)))
    run = submitted(
        chain(add(1), group(add(PREVIOUS, y=10), inner, group()), step("sums.total", numbers=[PREVIOUS, 1][1:]))
    )
    assert run.result("60s") == 1
    assert submitted(group(chain(add(1), add(PREVIOUS), add(PREVIOUS, y=1)), inner)).result("60s") == [2, 46]
    assert submitted(chain(*[add(PREVIOUS if n else 0, y=1) for n in range(200)])).result("60s") == 200


def test_a_flow_is_submitted_by_a_step_that_has_a_process_to_itself(submitted, start_worker, runs):
    start_worker()
    flow, parent = submitted(chain(step("sums.apart"))).result("60s")
    (view,) = runs.reach([flow])
    assert (view.parent, bytes(view.result or b"")) == (parent, b"3")


def test_a_step_that_fails_ends_the_others_and_the_flow_goes_on_when_it_is_mended(submitted, start_worker, runs, root):
    start_worker()
    later = step.using(delay="1h")("sums.add", x=7)
    late = group(step("sums.want", file="late"), step("sums.nap"), later)
    run = submitted(chain(add(1), late, add(2)))
    failed = run.result("60s", propagate=False)
    assert isinstance(failed, RunFailed)
    assert (failed.reason, failed.type) == ("error", "StepFailed")
    assert "sums.want" in failed.message
    assert "late is not there" in failed.message
    view = runs.show([run.id])[0]
    assert view.steps is not None
    assert (view.steps.open, view.steps.succeeded, view.steps.failed) == (0, 1, 1)
    assert executions(root, f"{run.id}-6") == 0
    (root / "late").touch()
    assert run.redrive() == "queued"
    until(lambda: runs.show([f"{run.id}-5"])[0].state == "running", 30)
    assert executions(root, f"{run.id}-1") == 1
    until(lambda: runs.show([f"{run.id}-4"])[0].state == "succeeded", 30)
    assert run.cancel() == "cancelling"
    assert isinstance(run.result("60s", propagate=False), RunFailed)
    assert runs.show([f"{run.id}-5"])[0].state == "cancelled"
    assert run.state() == "cancelled"


def test_outcomes_are_collected(submitted, start_worker):
    start_worker()
    run = submitted(group(add(1), chain(step("sums.want", file="never"), add(2)), collect=True))
    good, bad = run.result("60s")
    assert good == {"state": "succeeded", "result": 1}
    assert (bad["state"], bad["reason"], bad["run_id"]) == ("failed", "error", f"{run.id}-3")
    assert "never is not there" in bad["error"]


def test_a_flow_survives_the_death_of_its_workers_and_of_its_store(submitted, start_worker, server, runs, root):
    """Each dies at work, with what it holds: nothing of the flow is lost, stuck or done twice over."""
    adds = [chain(add(n, seconds=0.05), add(PREVIOUS, y=1, seconds=0.05)) for n in range(100)]
    run = submitted(chord(adds, step("sums.total", numbers=PREVIOUS)))
    for lines in (10, 60, 120):
        worker = start_worker(FNRUN_QUEUE__CONCURRENCY="10")
        wait_for_lines(root, lines, seconds=60)
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.wait(10)
    start_worker()
    wait_for_lines(root, 160, seconds=60)
    server.kill()
    server.start()
    assert run.result("120s") == sum(range(100)) + 100
    view = runs.show([run.id])[0]
    assert view.steps is not None
    assert (view.steps.total, view.steps.open, view.steps.succeeded) == (201, 0, 201)
    steps = {line[0] for line in journal(root)}
    assert len(steps) == 201
    assert {one.state for one in runs.show(sorted(steps))} == {"succeeded"}
