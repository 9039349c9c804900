"""A worker is killed at every point at which it speaks to the ledger of a chord's runs: the chord ends once, and right."""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from runtime.ledger.calls import do, script
from runtime.ledger.flows.nodes import FlowSubmission, Node
from tests.live_servers import until
from tests.live_workers import Runs, journal, workers
from tests.stores import TcpStore, Tripwire

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

FUNCTIONS = """
    import os
    from pathlib import Path
    from runtime import Context, queue

    JOURNAL = os.open(Path(__file__).parents[1] / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(ctx):
        os.write(JOURNAL, f"{ctx.run_id} {ctx.attempt}\\n".encode())

    @queue("default")
    async def part(ctx: Context, number: int) -> int:
        note(ctx)
        return number

    @queue("default")
    async def total(ctx: Context, numbers: list[int]) -> int:
        note(ctx)
        return sum(n * at for at, n in enumerate(numbers, 1))
"""
STEPS = 100
RESULT = sum(number * number for number in range(1, STEPS + 1))
CONCURRENCY = 16
"""So few at once that a chord takes many claims and many finishes."""

When = Literal["before", "after"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with TcpStore(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest.fixture
def root(write_project: Callable[..., Path]) -> Path:
    return write_project(**{"functions/sums.py": FUNCTIONS})


def a_chord(flow_id: str) -> FlowSubmission:
    parts = [
        Node(kind="step", parent=1, function="sums.part", queue="default", pieces=(f'{{"number":{number}}}',))
        for number in range(1, STEPS + 1)
    ]
    return FlowSubmission(
        id=flow_id,
        kind="chord",
        nodes=(
            Node(kind="chain", first=1, count=2),
            Node(kind="group", parent=0, first=3, count=STEPS),
            Node(kind="step", parent=0, function="sums.total", queue="default", pieces=('{"numbers":', "}")),
            *parts,
        ),
    )


def chord_under_a_kill(root: Path, server: TcpStore, runs: Runs, command: str, number: int, when: When) -> bool:
    """Run a chord of 100; its worker is killed at the number-th call of a script, another takes over. Whether it came to that."""
    flow_id = f"chord-{command}-{number}-{when}"
    with (
        Tripwire(server.port, script(command).sha, number, when) as wire,
        workers(root, wire.url) as start,
        workers(root, server.url) as start_another,
    ):
        doomed = start(FNRUN_QUEUE__CONCURRENCY=str(CONCURRENCY)).process
        wire.arm(doomed.kill)
        do(runs.client, runs.ledger.accept_flow(a_chord(flow_id)))
        until(lambda: wire.sprung or runs.show([flow_id])[0].is_finished, 30)
        if wire.sprung:
            start_another()
        [flow] = runs.reach([flow_id], seconds=60)
        assert (flow.state, flow.result and msgspec.json.decode(flow.result)) == ("succeeded", RESULT)
        steps = [f"{flow_id}-{index}" for index in range(2, STEPS + 3)]
        assert {(view.state, view.failures) for view in runs.show(steps)} == {("succeeded", 0)}
        begun = Counter(run for run, _ in journal(root))
        assert begun.keys() == set(steps)
        assert begun.total() - len(steps) <= CONCURRENCY
        runs.account()
        return wire.sprung


@pytest.mark.parametrize(
    ("command", "number", "when"),
    [
        ("claim", 1, "after"),
        ("claim", 3, "before"),
        ("finish", 1, "before"),
        ("finish", 1, "after"),
        ("finish", 4, "before"),
        ("finish", 4, "after"),
    ],
)
def test_a_chord_ends_once_and_right_though_its_worker_is_killed(root, server, runs, command, number, when):
    assert chord_under_a_kill(root, server, runs, command, number, when)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("command", ["claim", "finish"])
def test_a_chord_ends_once_and_right_wherever_its_worker_is_killed(root, server, runs, command, when):
    for number in itertools.count(1):
        (root / "journal").unlink(missing_ok=True)
        if not chord_under_a_kill(root, server, runs, command, number, when):
            break
    assert number > STEPS // CONCURRENCY
