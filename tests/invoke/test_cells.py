"""Jobs in processes of their own: whatever one does, it gives one answer or ends alone. Real processes throughout."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.invoke.isolation.cells import CellDied, Cells, NoCell
from runtime.invoke.isolation.frames import describe_end, frame

JOBS = Path(__file__).with_name("cell_jobs.py")
WORKER = Path(__file__).with_name("cell_worker.py")
COMMAND = [sys.executable, str(JOBS)]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


on_both_loops = pytest.mark.parametrize("anyio_backend", ["uvloop", "asyncio"], indirect=True)


@pytest.fixture
def anyio_backend(request, monkeypatch):
    """The loop of the worker, and of its cells."""
    loop = getattr(request, "param", "uvloop")
    monkeypatch.setenv("CELL_LOOP", loop)
    return "asyncio", {"use_uvloop": loop == "uvloop"}


@pytest.fixture
async def cells(anyio_backend):
    cells = Cells(COMMAND)
    yield cells
    await cells.close()


async def eventually(condition, seconds=10.0):
    """Poll a condition until it holds, while the loop runs on."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)
    return found


def is_gone(pid):
    """Whether a process has ended. One whose new parent does not look after it has ended, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def children_of(pid):
    """Ids of its children, zombies included."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if path.read_text().rpartition(") ")[2].split()[1] == str(pid):
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def descriptors_of(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def begin(cells, job):
    """Start a job that tells its process ids; it, and them."""
    told = asyncio.get_running_loop().create_future()
    cell = cells.start(job, lambda message: told.set_result([int(pid) for pid in message.split()]))
    return cell, await told


@on_both_loops
async def test_a_job_is_answered_by_a_process_of_its_own(cells):
    pid, zygote, group = map(int, (await cells.run(b"pids")).split())
    assert os.getpid() not in (pid, zygote)
    assert group == pid
    other, same_zygote, _ = map(int, (await cells.run(b"pids")).split())
    assert other != pid
    assert same_zygote == zygote


@on_both_loops
async def test_a_hundred_at_once(cells, record_property):
    await cells.run(b"echo warm")
    jobs = [b"echo %d" % number for number in range(100)]
    began = time.perf_counter()
    answers = await asyncio.gather(*map(cells.run, jobs))
    record_property("cells_per_second", round(100 / (time.perf_counter() - began)))
    assert answers == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize(
    ("job", "how"),
    [
        (b"leave 3", "exit code 3"),
        (b"leave None", "exit code 0"),
        (b"leave 'a reason'", "exit code 1"),
        (b"leave 2**40", "exit code 0"),
        (b"leave_at_once 4", "exit code 4"),
        (b"segfault", "signal SIGSEGV"),
        (b"kill 9", "signal SIGKILL"),
        (b"kill 6", "signal SIGABRT"),
        (b"kill 40", "signal 40"),
        (b"fail", "exit code 1"),
        (b"want_memory", "exit code 1"),
        (b"no_such_job", "exit code 1"),
    ],
)
async def test_a_job_that_ends_its_process_ends_no_other(cells, job, how):
    neighbour = cells.start(b"nap 0.2")
    with pytest.raises(CellDied) as caught:
        await cells.run(job)
    assert caught.value.how == how
    assert how in str(caught.value)
    assert not isinstance(caught.value, NoCell)
    assert await neighbour.answer()


@on_both_loops
@pytest.mark.parametrize(
    "job", [b"close_everything", b"close_everything_in_thread", b"hang_up", b"write_nonsense"], ids=bytes.decode
)
async def test_a_job_that_cuts_itself_off_dies(cells, job):
    began = time.monotonic()
    with pytest.raises(CellDied):
        await cells.run(job)
    assert time.monotonic() - began < 5
    assert await cells.run(b"echo on") == b"on"


async def test_signals_that_are_for_the_worker_do_not_end_a_cell(cells):
    assert await cells.run(b"kill %d" % signal.SIGTERM) == b"alive"
    assert await cells.run(b"kill %d" % signal.SIGINT) == b"alive"


async def test_a_cell_has_nothing_of_its_zygote_or_its_neighbours(cells):
    before = await cells.run(b"surroundings")
    stdin, child_handler, descriptors = before.split()
    assert stdin == b"''"
    assert int(child_handler) == signal.SIG_DFL
    assert int(descriptors) < 16
    neighbour, _ = await begin(cells, b"wait")
    assert await cells.run(b"surroundings") == before
    neighbour.kill("enough")
    with pytest.raises(CellDied, match="killed: enough"):
        await neighbour.answer()


async def test_cells_draw_different_random_numbers(cells):
    assert len({await cells.run(b"draw") for _ in range(5)}) == 5


@on_both_loops
async def test_what_a_cell_tells_comes_in_order_before_its_answer(cells):
    told = []
    assert await cells.run(b"count 100", told.append) == b"done"
    assert told == [b"%d" % number for number in range(100)]
    assert await cells.run(b"count 3") == b"done"


async def test_threads_tell_whole_messages(cells):
    told = []
    assert await cells.run(b"tell_from_thread", told.append) == b"done"
    assert told == [b"x" * 100_000] * 20


async def test_a_callback_that_fails_ends_its_cell_alone(cells):
    def refuse(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await cells.run(b"wait", refuse)
    assert await cells.run(b"echo on") == b"on"


@on_both_loops
async def test_large_jobs_and_answers(cells):
    large = os.urandom(20_000_000)
    assert await cells.run(b"echo " + large) == large
    assert len(await cells.run(b"grow 20000000")) == 20_000_000
    assert await cells.run(b"echo ") == b""


def test_what_is_too_large_for_a_frame_is_refused():
    class Huge(bytes):
        def __len__(self):
            return 2**30 + 1

    with pytest.raises(OverflowError):
        frame(b"j", Huge())


@on_both_loops
@pytest.mark.parametrize("job", [b"fork", b"fork_in_thread"], ids=bytes.decode)
async def test_a_fork_of_a_cell_does_not_answer(cells, job):
    told = []
    answer = await cells.run(job, told.append)
    assert answer == b"child" or int(answer) > 0
    assert told == []


async def test_a_fork_that_is_left_behind_dies_with_its_cell(cells):
    told = []
    with pytest.raises(CellDied, match="exit code 5"):
        await cells.run(b"leave_a_fork_behind", told.append)
    await eventually(lambda: is_gone(int(told[0])))


async def test_a_fork_that_escaped_holds_nobody_up(cells):
    began = time.monotonic()
    with pytest.raises(CellDied, match="exit code 5"):
        await cells.run(b"leave_an_escaped_fork_behind")
    assert time.monotonic() - began < 10


@on_both_loops
@pytest.mark.parametrize("job", [b"start_program", b"block_loop", b"block_python", b"wait"], ids=bytes.decode)
async def test_a_cancelled_run_is_gone_with_all_it_started(cells, job):
    told = asyncio.get_running_loop().create_future()
    run = asyncio.create_task(cells.run(job, told.set_result))
    pid, _, *programs = map(int, (await told).split())
    began = time.monotonic()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert is_gone(pid)
    assert time.monotonic() - began < 10
    await eventually(lambda: all(map(is_gone, programs)))


async def test_a_cell_can_be_killed_for_a_reason(cells):
    cell, (pid, _) = await begin(cells, b"block_python")
    cell.kill("it took longer than 2 s")
    with pytest.raises(CellDied) as caught:
        await cell.answer()
    assert caught.value.how == "killed: it took longer than 2 s"
    assert is_gone(pid)
    cell.kill("twice")


async def test_at_most_so_many_at_once_and_the_others_in_order():
    cells = Cells(COMMAND, limit=2)
    at_work, most, order = set(), [0], []

    async def run(number):
        def note(_):
            at_work.add(number)
            order.append(number)
            most[0] = max(most[0], len(at_work))

        await cells.run(b"nap 0.05", note)
        at_work.discard(number)

    await asyncio.gather(*map(run, range(8)))
    assert most == [2]
    assert sorted(order[:2]) == [0, 1]
    assert sorted(order) == list(range(8))
    await cells.close()


async def test_who_waits_for_a_place_can_leave():
    cells = Cells(COMMAND, limit=1)
    first, _ = await begin(cells, b"wait")
    second, third = cells.start(b"echo second"), cells.start(b"echo third")
    await asyncio.sleep(0)
    second.kill("not wanted")
    with pytest.raises(CellDied, match="not wanted"):
        await second.answer()
    first.kill("enough")
    assert await third.answer() == b"third"
    with pytest.raises(CellDied, match="enough"):
        await first.answer()
    await cells.close()


@on_both_loops
async def test_a_killed_zygote_takes_its_cells_along_and_is_replaced(cells):
    cell, (pid, zygote, program) = await begin(cells, b"start_program")
    os.kill(zygote, signal.SIGKILL)
    with pytest.raises(CellDied, match="killed: its zygote died"):
        await cell.answer()
    await eventually(lambda: is_gone(pid) and is_gone(program))
    assert int((await cells.run(b"pids")).split()[1]) != zygote


async def test_a_job_that_kills_the_zygote(cells):
    with pytest.raises(CellDied, match="its zygote died"):
        await cells.run(b"kill_parent")
    assert await cells.run(b"echo on") == b"on"


async def test_a_frozen_zygote_does_not_keep_who_wants_to_leave(cells):
    cell, (pid, zygote) = await begin(cells, b"block_python")
    os.kill(zygote, signal.SIGSTOP)
    waiting = [cells.start(b"echo never") for _ in range(5)]
    await asyncio.sleep(0.1)
    cell.kill("enough")
    with pytest.raises(CellDied, match="enough"):
        await cell.answer()
    await eventually(lambda: is_gone(pid) and is_gone(zygote))
    for one in waiting:
        with pytest.raises(NoCell):
            await one.answer()
    assert await cells.run(b"echo on") == b"on"


async def test_more_orders_than_the_line_holds_at_once():
    cells = Cells(COMMAND, limit=2000)
    zygote = int((await cells.run(b"pids")).split()[1])
    os.kill(zygote, signal.SIGSTOP)
    jobs = [cells.start(b"echo %d" % number) for number in range(400)]
    await asyncio.sleep(0.5)
    for job in jobs[:-20]:
        job.kill("enough")
    os.kill(zygote, signal.SIGCONT)
    answers = await asyncio.gather(*(job.answer() for job in jobs), return_exceptions=True)
    assert all(isinstance(answer, CellDied) for answer in answers[:-20])
    assert answers[-20:] == [b"%d" % number for number in range(380, 400)]
    await cells.close()


async def test_renewed_cells_come_from_a_new_zygote_and_the_old_one_ends_with_its_cells(cells):
    told = []
    old = cells.start(b"nap 0.5", told.append)
    await eventually(lambda: told)
    cells.renew()
    zygote = int((await cells.run(b"pids")).split()[1])
    old_zygote = int(await old.answer())
    assert old_zygote != zygote
    await eventually(lambda: is_gone(old_zygote))
    cells.renew()
    await eventually(lambda: is_gone(zygote))


async def test_who_waits_while_it_is_renewed_gets_the_new_one(cells):
    waiting = cells.start(b"echo on")
    await asyncio.sleep(0.05)
    cells.renew()
    assert await waiting.answer() == b"on"


async def test_a_zygote_without_cells_ends_after_a_while():
    cells = Cells(COMMAND, idle_seconds=0.2)
    zygote = int((await cells.run(b"pids")).split()[1])
    await cells.run(b"nap 0.4")
    assert not is_gone(zygote)
    await eventually(lambda: is_gone(zygote))
    assert await cells.run(b"echo on") == b"on"
    await cells.close()


async def test_functions_that_do_not_load_are_told_of_and_tried_again(monkeypatch, cells):
    monkeypatch.setenv("CELL_JOBS", "fail")
    runs = await asyncio.gather(cells.run(b"echo 1"), cells.run(b"echo 2"), return_exceptions=True)
    assert [type(error) for error in runs] == [NoCell, NoCell]
    monkeypatch.delenv("CELL_JOBS")
    began = time.monotonic()
    assert await cells.run(b"echo on") == b"on"
    assert time.monotonic() - began > 0.9


async def test_a_command_that_cannot_be_started():
    cells = Cells(["/nonexistent"])
    with pytest.raises(NoCell, match="cannot be started"):
        await cells.run(b"echo")
    await cells.close()


async def test_a_zygote_that_hangs_while_it_loads_is_ended(monkeypatch):
    monkeypatch.setenv("CELL_JOBS", "hang")
    cells = Cells(COMMAND)
    others = set(children_of(os.getpid()))  # the store of other tests, say
    run = asyncio.create_task(cells.run(b"echo"))
    (zygote,) = await eventually(lambda: set(children_of(os.getpid())) - others)
    await asyncio.sleep(0.3)
    began = time.monotonic()
    await cells.close()
    assert time.monotonic() - began < 10
    assert is_gone(zygote)
    with pytest.raises(NoCell):
        await run


async def test_functions_that_start_threads_are_loaded_anew_for_each_job(monkeypatch, capfd, cells):
    monkeypatch.setenv("CELL_JOBS", "thread")
    assert await asyncio.gather(*(cells.run(b"echo %d" % n) for n in range(3))) == [b"0", b"1", b"2"]
    cell, (pid, _, program) = await begin(cells, b"start_program")
    cell.kill("enough")
    with pytest.raises(CellDied, match="enough"):
        await cell.answer()
    await eventually(lambda: is_gone(pid) and is_gone(program))
    with pytest.raises(CellDied, match="signal SIGSEGV"):
        await cells.run(b"segfault")
    assert "sampler" in capfd.readouterr().err


async def test_a_job_for_which_there_is_no_process_has_not_begun(cells):
    zygote = int((await cells.run(b"pids")).split()[1])
    _, most = limits = resource.prlimit(zygote, resource.RLIMIT_NOFILE)
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, (3, most))
    with pytest.raises(NoCell, match="cannot fork: Too many open files"):
        await cells.run(b"echo")
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, limits)
    assert int((await cells.run(b"pids")).split()[1]) == zygote


async def test_what_a_job_printed_before_it_died_is_seen(capfd, cells):
    with pytest.raises(CellDied):
        await cells.run(b"print_and_die")
    printed = capfd.readouterr()
    assert printed.out == "the last words\n"
    assert "in print_and_die" in printed.err


PROJECT = """
import sys, socket
from contextlib import asynccontextmanager
from pathlib import Path
from runtime.cli.cells import serve_cells

def opens_of(project):
    async def perform(job, tell):
        return b"%d" % project.registry.functions[job.decode()].call()

    @asynccontextmanager
    async def opens():
        yield perform

    return opens

serve_cells(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[-1])), opens_of, alone="--alone" in sys.argv)
"""


async def test_the_functions_of_a_project_are_loaded_once_and_called_in_cells(write_project):
    root = write_project(
        **{
            "functions/where.py": """
            import os
            from runtime import http

            LOADED = os.getpid()

            @http.get
            def loaded(): return LOADED

            @http.get
            def called(): return os.getpid()
            """
        }
    )
    cells = Cells([sys.executable, "-c", PROJECT, str(root)])
    loaded = {await cells.run(b"where.loaded") for _ in range(3)}
    called = {await cells.run(b"where.called") for _ in range(3)}
    assert len(loaded) == 1
    assert len(called | loaded) == 4
    await cells.close()


async def test_a_project_that_cannot_be_loaded(tmp_path):
    cells = Cells([sys.executable, "-P", "-m", "runtime", "--dir", str(tmp_path), "cell-child"])
    with pytest.raises(NoCell, match="before it was ready"):
        await cells.run(b"any")
    await cells.close()


async def test_a_cell_that_does_not_end_after_its_answer_is_ended(cells):
    assert await cells.run(b"work_on_after_answer") == b"answered"
    zygote = int((await cells.run(b"pids")).split()[1])
    await eventually(lambda: not children_of(zygote), seconds=3)


async def test_only_what_the_job_registered_is_done_at_its_exit(monkeypatch, tmp_path, capfd, cells):
    monkeypatch.setenv("CELL_JOBS", "print")
    made = tmp_path / "made"
    await cells.run(b"register_at_exit " + os.fsencode(made))
    await eventually(made.exists)
    await cells.close()
    assert capfd.readouterr().out == "loading\n"


@on_both_loops
async def test_nothing_is_left_of_what_was(anyio_backend):
    cells = Cells(COMMAND, limit=8)
    await cells.run(b"echo warm")
    before = descriptors_of(os.getpid())
    zygote = int((await cells.run(b"pids")).split()[1])
    await eventually(lambda: not children_of(zygote))
    zygote_before = descriptors_of(zygote)
    jobs = [b"echo 1", b"segfault", b"leave 3", b"wait", b"grow 1000000"] * 8
    runs = [cells.start(job) for job in jobs]
    asyncio.get_running_loop().call_later(0.5, lambda: [run.kill("enough") for run in runs])
    await asyncio.gather(*(run.answer() for run in runs), return_exceptions=True)
    await eventually(lambda: not children_of(zygote))
    await eventually(lambda: descriptors_of(os.getpid()) <= before)
    await eventually(lambda: descriptors_of(zygote) <= zygote_before)
    await cells.close()
    assert zygote not in children_of(os.getpid())
    with pytest.raises(NoCell):
        await cells.run(b"echo")


async def test_closing_ends_what_is_at_work(cells):
    cell, (pid, zygote, program) = await begin(cells, b"start_program")
    began = time.monotonic()
    await cells.close()
    assert time.monotonic() - began < 10
    with pytest.raises(CellDied, match="its worker ends it"):
        await cell.answer()
    assert is_gone(pid)
    assert is_gone(zygote)
    assert is_gone(program)


def test_a_killed_worker_leaves_nobody(tmp_path):
    jobs = ["block_python", "block_loop", "wait", "start_program"]
    worker = subprocess.Popen([sys.executable, WORKER, JOBS, *jobs], stdout=subprocess.PIPE, text=True)
    with worker:
        pids = {int(pid) for _ in jobs for pid in worker.stdout.readline().split()}
        assert len(pids) == 6
        worker.kill()
        worker.wait()
        deadline = time.monotonic() + 1
        while not all(map(is_gone, pids)):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_worker_and_zygote_killed_together_leave_no_cell():
    jobs = ["block_python", "block_loop", "wait"]
    worker = subprocess.Popen([sys.executable, WORKER, JOBS, *jobs], stdout=subprocess.PIPE, text=True)
    with worker:
        told = [[int(pid) for pid in worker.stdout.readline().split()] for _ in jobs]
        os.kill(told[0][1], signal.SIGSTOP)
        worker.kill()
        os.kill(told[0][1], signal.SIGKILL)
        worker.wait()
        deadline = time.monotonic() + 1
        while not all(is_gone(pid) for pids in told for pid in pids):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_ends_are_named():
    assert describe_end(3 << 8) == "exit code 3"
    assert describe_end(signal.SIGSEGV) == "signal SIGSEGV"
