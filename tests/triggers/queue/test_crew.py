"""A crew claims for slots whose outcomes are being written, and begins no run before they are."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.invoke.invoker import Invoker
from runtime.ledger.desk import Desk
from runtime.projects import load_project
from runtime.triggers.queue.crew import Crew
from runtime.triggers.queue.leases import Lease
from runtime.triggers.queue.parts import Options
from tests.desks import submit, view_of
from tests.live_servers import until

SLOTS = 8
FUNCTIONS = """
    from pathlib import Path
    from runtime import Context, queue

    @queue("default")
    async def note(ctx: Context):
        with Path({file!r}).open("a") as told:
            told.write(ctx.run_id + "\\n")
"""


class Nothing:
    """Resources of which there are none."""

    async def open(self) -> None: ...

    async def finish(self, idle: Callable[[float], Any], within_seconds: float) -> None:
        await idle(within_seconds)

    async def close(self) -> None: ...


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where handlers say that they have begun."""
    (tmp_path / "begun").touch()
    return tmp_path / "begun"


@pytest.fixture
def crew(desk: Desk, file: Path, write_project: Callable) -> Iterator[Crew]:
    project = load_project(write_project(**{"functions/jobs.py": FUNCTIONS.format(file=str(file))}))
    made = Crew(desk.store, desk.ledger, Invoker(threads=2), Options(worker="w", concurrency=SLOTS))
    loop = asyncio.new_event_loop()
    assert made.begin(project.registry.functions.values(), Nothing(), lambda: loop)
    made.register()
    yield made
    if not made._invoker.threads.is_closed:
        made.end(1)
    until(lambda: not loop.is_running())
    loop.run_until_complete(made._async_client.connection_pool.disconnect())  # a worker's process ends instead
    loop.close()


@pytest.fixture
def write(crew: Crew) -> Callable[[], None]:
    """Outcomes are written once this is called, and no sooner."""
    may, send = asyncio.Event(), crew._outbox._send

    async def held(endings: Any) -> Any:
        await may.wait()
        return await send(endings)

    crew._outbox._send = held
    return lambda: crew._call_on_loop(may.set)


def claim(crew: Crew) -> list[Lease]:
    """As the hub does."""
    crew.take_ended()
    leases = crew.claim(["default"], crew.free)
    for lease in leases:
        crew.put(lease)
    return leases


def fill(crew: Crew, desk: Desk, file: Path) -> list[Lease]:
    """All slots have runs whose outcomes are not written; the runs that are claimed all the same."""
    for _ in range(2 * SLOTS):
        submit(desk, "jobs.note")
    assert len(claim(crew)) == SLOTS
    until(lambda: len(crew._outbox) == SLOTS)
    ahead = claim(crew)
    assert len(ahead) == SLOTS // 4
    assert claim(crew) == []
    crew.on_loop(nothing()).result(5)  # it has been handed over
    return ahead


def begun(file: Path) -> list[str]:
    return file.read_text().split()


async def nothing() -> None:
    """A turn of the loop."""


def test_what_is_claimed_ahead_begins_when_outcomes_are_written(crew, desk, file, write):
    ahead = fill(crew, desk, file)
    assert len(begun(file)) == SLOTS, "a kill would now repeat as many as there are slots"
    write()
    until(lambda: len(begun(file)) == SLOTS + len(ahead))
    until(lambda: view_of(desk, ahead[0].run.id).state == "succeeded")
    assert crew.free <= SLOTS


def test_what_is_cancelled_while_it_waits_never_begins(crew, desk, file, write):
    first, second = fill(crew, desk, file)
    crew.cancel(first)
    write()
    until(lambda: view_of(desk, second.run.id).state == "succeeded")
    until(lambda: view_of(desk, first.run.id).state == "cancelled")
    assert first.run.id not in begun(file)


def test_what_waits_runs_before_the_end(crew, desk, file, write):
    ahead = fill(crew, desk, file)
    crew.closing = True
    assert crew.free == 0
    write()
    crew.on_loop(crew._drain(5)).result(10)
    assert {one.run.id for one in ahead} <= set(begun(file))


def test_what_waits_does_not_begin_in_a_hurry(crew, desk, file, write):
    ahead = fill(crew, desk, file)
    crew.closing = True
    crew.hurry()
    write()
    crew.end(5)
    assert {view_of(desk, one.run.id).state for one in ahead} == {"queued"}
    assert len(begun(file)) == SLOTS


def test_a_batch_whose_slots_are_being_freed_makes_no_more_of_them(crew, desk, file, write):
    fill(crew, desk, file)
    promised, written = [], crew._outbox._written

    def look(ending: Any) -> None:
        written(ending)
        promised.append(crew.free + crew._at_work)  # as the hub sees it, whose thread waits for nobody

    crew._outbox._written = look
    write()
    until(lambda: len(promised) >= SLOTS)
    assert max(promised[:SLOTS]) <= SLOTS


def test_what_has_not_begun_is_not_blamed_for_a_loop_that_is_held(crew, desk, file, write):
    ahead = fill(crew, desk, file)
    assert crew.give_up("", 1)
    assert {(view.state, view.crashes) for view in (view_of(desk, one.run.id) for one in ahead)} == {("queued", 0)}
