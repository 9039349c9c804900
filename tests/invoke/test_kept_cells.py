"""Cells that do one job after the other: which job gets which, when one is renewed, what becomes of one that dies."""

import asyncio
import os
import signal
import sys

import pytest

from runtime.base.errors import CellDied, NoCell, TookTooLong
from runtime.invoke.isolation.cells import Cells
from runtime.invoke.isolation.places import Keep
from runtime.invoke.isolation.zygote_client import Surroundings
from tests.invoke.test_cells import COMMAND, begin, children_of, descriptors_of, eventually, is_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(params=["uvloop", "asyncio"])
def anyio_backend(request, monkeypatch):
    """The loop of the worker, and of its cells."""
    monkeypatch.setenv("CELL_LOOP", request.param)
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def pid_of(cells, kind="a"):
    return int((await cells.run(b"pids", kind=kind)).split()[0])


async def test_jobs_of_one_kind_have_the_same_cell(anyio_backend):
    cells = Cells(COMMAND, limit=4)
    first = await pid_of(cells, "a")
    assert {await pid_of(cells, "a") for _ in range(5)} == {first}
    assert await pid_of(cells, "b") != first
    assert await pid_of(cells, "") not in (first, await pid_of(cells, ""))
    assert await pid_of(cells, "a") == first
    told = []
    assert await cells.run(b"count 100", told.append, kind="a") == b"done"
    assert told == [b"%d" % number for number in range(100)]
    large = os.urandom(20_000_000)
    assert await cells.run(b"echo " + large, kind="a") == large
    assert await pid_of(cells, "a") == first
    await cells.close()
    assert is_gone(first)


async def test_one_is_renewed_after_so_many_jobs_and_ends_when_it_has_been_idle(anyio_backend):
    cells = Cells(COMMAND, keep=Keep(seconds=0.2, jobs=3))
    pids = [await pid_of(cells) for _ in range(7)]
    assert len(set(pids[:3])) == len(set(pids[3:6])) == 1
    assert len(set(pids)) == 3
    await eventually(lambda: all(map(is_gone, pids)))
    assert await cells.run(b"echo on", kind="a") == b"on"
    await cells.close()


async def test_an_idle_one_makes_room_for_another_kind(anyio_backend):
    cells = Cells(COMMAND, limit=2)
    first, second = await pid_of(cells, "a"), await pid_of(cells, "b")
    third = await pid_of(cells, "c")
    await eventually(lambda: is_gone(first))
    assert await pid_of(cells, "b") == second
    assert await pid_of(cells, "c") == third
    answers = await asyncio.gather(*(cells.run(b"nap 0.01", kind="abcd"[n % 4]) for n in range(20)))
    assert len(answers) == 20
    await cells.close()


async def test_who_waits_for_its_kind_gets_the_cell_that_has_it(anyio_backend):
    cells = Cells(COMMAND, limit=1)
    pids = await asyncio.gather(*(pid_of(cells, "a") for _ in range(5)))
    assert len(set(pids)) == 1
    await cells.close()


async def test_who_waits_too_long_for_a_place_is_told(anyio_backend):
    cells = Cells(COMMAND, limit=1)
    busy, (pid, _) = await begin(cells, b"wait")
    with pytest.raises(NoCell, match="at work"):
        await cells.run(b"echo on", kind="a", seconds=0.1)
    busy.kill("enough")
    with pytest.raises(CellDied):
        await busy.answer()
    assert is_gone(pid)
    assert await cells.run(b"echo on", kind="a", seconds=5) == b"on"
    await cells.close()


@pytest.mark.parametrize("job", [b"block_python", b"block_loop", b"wait"], ids=bytes.decode)
async def test_a_job_that_takes_too_long_is_killed(anyio_backend, job):
    cells = Cells(COMMAND)
    pid = await pid_of(cells)
    with pytest.raises(TookTooLong, match=r"longer than 0\.2 s"):
        await cells.run(job, lambda _: None, kind="a", seconds=0.2)
    assert is_gone(pid)
    assert await pid_of(cells) != pid
    await cells.close()


async def test_a_new_cells_time_begins_when_it_has_opened_what_it_needs(anyio_backend):
    cells = Cells(COMMAND)
    assert await cells.run(b"begin_late 0.5", kind="a", seconds=0.3) == b"began"
    await cells.close()


async def test_one_that_died_while_it_was_idle_costs_nobody_a_job(anyio_backend):
    cells = Cells(COMMAND)
    for _ in range(10):
        pid = await pid_of(cells)
        os.kill(pid, signal.SIGKILL)
        assert await cells.run(b"echo on", kind="a") == b"on"
    with pytest.raises(CellDied, match="SIGKILL"):
        await cells.run(b"kill 9", kind="a")
    assert await cells.run(b"echo on", kind="a") == b"on"
    await cells.close()


async def test_one_that_wants_to_leave_gets_no_more_jobs(anyio_backend):
    cells = Cells(COMMAND)
    pid = await pid_of(cells)
    assert int(await cells.run(b"leave_after", kind="a")) == pid
    assert await pid_of(cells) != pid
    await cells.close()


async def test_what_a_job_left_does_not_speak_for_the_next(anyio_backend):
    cells, told = Cells(COMMAND), []
    assert await cells.run(b"tell_later", kind="a") == b"done"
    await cells.run(b"nap 0.3", told.append, kind="a")
    assert told == [b"began"]
    await cells.close()


async def test_renewed_ones_are_not_kept(anyio_backend):
    cells, told = Cells(COMMAND), []
    idle = await pid_of(cells, "idle")
    at_work = cells.start(b"nap 0.3", told.append, kind="a")
    await eventually(lambda: told)
    cells.renew()
    await eventually(lambda: is_gone(idle))
    zygote = int(await at_work.answer())
    await eventually(lambda: is_gone(zygote))
    assert int((await cells.run(b"pids", kind="a")).split()[1]) != zygote
    await cells.close()


async def test_closing_lets_idle_ones_close_what_they_have_open(anyio_backend, monkeypatch, capfd):
    monkeypatch.setenv("CELL_JOBS", "close")
    cells = Cells(COMMAND)
    await pid_of(cells)
    await cells.close()
    assert "closed" in capfd.readouterr().out


@pytest.mark.parametrize("job", [b"leave_a_daemon", b"leave_a_daemon_and_die"], ids=bytes.decode)
async def test_a_daemon_does_not_get_away(anyio_backend, job):
    cells, told = Cells(COMMAND), []
    run = cells.start(job, told.append)
    await asyncio.gather(run.answer(), return_exceptions=True)
    zygote = int((await cells.run(b"pids")).split()[1])
    await eventually(lambda: told and is_gone(int(told[0])))
    await eventually(lambda: not children_of(zygote))
    await cells.close()


async def test_a_daemon_lives_as_long_as_its_job(anyio_backend):
    cells, told = Cells(COMMAND), []
    run = cells.start(b"daemon_and_wait", told.append)
    await eventually(lambda: told)
    for _ in range(3):
        await cells.run(b"echo neighbour")
    assert not is_gone(int(told[0]))
    run.kill("enough")
    with pytest.raises(CellDied):
        await run.answer()
    await eventually(lambda: is_gone(int(told[0])))
    await cells.close()


async def test_what_surrounds_them_is_said(anyio_backend, monkeypatch):
    monkeypatch.setenv("A_SECRET", "hidden")
    loop = os.environ["CELL_LOOP"]
    cells = Cells(COMMAND, surroundings=Surroundings({"PATH": os.environ["PATH"], "CELL_LOOP": loop}, b"told"))
    seen = (await cells.run(b"environment", kind="a")).decode()
    assert "A_SECRET" not in seen
    assert "PATH=" in seen
    assert seen.endswith("told")
    monkeypatch.setenv("CELL_JOBS", "thread")
    with_threads = Surroundings({"CELL_JOBS": "thread", "CELL_LOOP": loop}, b"told")
    alone = Cells(COMMAND, surroundings=with_threads)
    assert (await alone.run(b"environment", kind="a")).decode().endswith("told")
    await cells.close()
    await alone.close()


async def test_nothing_is_left_after_many_jobs_of_many_kinds(anyio_backend):
    cells = Cells(COMMAND, limit=3, keep=Keep(seconds=0.1, jobs=5))
    await cells.run(b"echo warm")
    zygote = int((await cells.run(b"pids")).split()[1])
    await eventually(lambda: not children_of(zygote))
    before, zygote_before = descriptors_of(os.getpid()), descriptors_of(zygote)
    jobs = [b"echo 1", b"segfault", b"leave 3", b"grow 1000000", b"block_python"] * 6
    runs = [cells.run(job, lambda _: None, kind="abc"[n % 3], seconds=2) for n, job in enumerate(jobs)]
    await asyncio.gather(*runs, return_exceptions=True)
    assert await cells.run(b"echo on", kind="a") == b"on"
    await eventually(lambda: not children_of(zygote))
    await eventually(lambda: descriptors_of(os.getpid()) <= before)
    await eventually(lambda: descriptors_of(zygote) <= zygote_before)
    await cells.close()
