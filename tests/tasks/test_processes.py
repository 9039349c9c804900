"""background.in_process: a process for a function, kept for its next call, killed when its time is over."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest

from runtime import BackgroundError, background
from runtime.base.errors import ProcessDied, TaskTimeout
from runtime.tasks.home import close_manager
from tests.tasks import crunch
from tests.tasks.conftest import reach

pytestmark = [pytest.mark.usefixtures("manager"), pytest.mark.timeout(90)]


def is_there(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_process_is_another_and_is_kept():
    first, second = await background.in_process(crunch.pid), await background.in_process(crunch.pid)
    assert first == second != os.getpid()
    assert await background.in_process(crunch.half, x=4) == 2
    assert await background.in_process(crunch.later, 4) == 5
    assert len(await background.in_process(crunch.big, 5_000_000)) == 5_000_000


async def test_what_it_raises_is_raised_with_the_lines_where_it_was():
    with pytest.raises(ValueError, match="3 is odd") as raised:
        await background.in_process(crunch.half, 3)
    assert "crunch.py" in raised.value.__notes__[0]
    with pytest.raises(BackgroundError, match=r"it raised what cannot be sent(.|\n)*OddError: 1"):
        await background.in_process(crunch.raise_odd)
    with pytest.raises(Exception, match=r"[Cc]an't (get|pickle).*lambda"):
        await background.in_process(crunch.unwritable)
    with pytest.raises(RuntimeError, match=r"SystemExit\(4\)"):
        await background.in_process(crunch.die, "sys.exit")


@pytest.mark.parametrize("how", ["exit", "segfault"])
async def test_a_process_that_dies_is_an_error_and_the_next_call_has_another(how):
    with pytest.raises(ProcessDied, match="the process that it ran in died"):
        await background.in_process(crunch.die, how)
    assert await background.in_process(crunch.half, 4) == 2


async def test_a_process_that_cannot_be_had_is_not_told_as_one_that_died(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.executable", str(tmp_path / "nothing"))
    with pytest.raises(ProcessDied, match=r"there is no process to run it in: .*cannot be started"):
        await background.in_process(crunch.half, 4)


async def test_its_time_over_it_is_killed_with_all_it_started(tmp_path, manager):
    note = tmp_path / "pids"
    with pytest.raises(TaskTimeout, match=r"crunch\.spin was not done when the 0.5 s of its own were over"):
        await background.using(timeout="500ms").in_process(crunch.spin, str(note))
    pids = [int(one) for one in note.read_text().split()]
    await reach(lambda: not any(is_there(pid) for pid in pids), 3)
    assert background.statistics().processes == 0


async def test_who_is_cancelled_takes_the_process_along(tmp_path):
    note = tmp_path / "pids"
    calling = asyncio.ensure_future(background.in_process(crunch.spin, str(note)))
    await reach(lambda: note.exists() and len(note.read_text().split()) == 2, 30)
    calling.cancel()
    await asyncio.wait((calling,))
    pids = [int(one) for one in note.read_text().split()]
    await reach(lambda: not any(is_there(pid) for pid in pids), 3)


async def test_many_have_at_most_so_many_processes(make):
    make(processes=2)
    found = await background.in_processes(crunch.slow_pid, [0.05] * 6)
    assert len({one.result() for one in found}) == 2
    outcomes = await background.in_processes(crunch.half, range(4), concurrency=1)
    assert [one.state for one in outcomes] == ["succeeded", "failed", "succeeded", "failed"]
    cut = await background.in_processes(crunch.spin, [{}, {}, {}], task_timeout="300ms", concurrency=2)
    assert [one.state for one in cut] == ["timeout"] * 3, cut


async def test_what_cannot_be_sent_is_refused_with_the_fix():
    with pytest.raises(BackgroundError, match="give a function of a module, by its name there"):
        await background.in_process(lambda: 1)


async def test_none_is_left_when_it_is_closed(make):
    manager = make()
    pid = await background.in_process(crunch.pid)
    files = descriptors()
    await close_manager(manager, 0)
    await reach(lambda: not is_there(pid))
    assert descriptors() < files
