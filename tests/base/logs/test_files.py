"""The log file: rotated by size and time, by many processes, and nothing of it lost."""

import os
import subprocess
import sys

import pytest

from runtime.base.errors import StartError
from runtime.base.logs.files import LogFile, Rotation, path_of

DAY = 86_400.0
NOW = 20_000 * DAY + 3600


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def aside_of(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.endswith("Z.log"))


def test_a_file_that_is_full_is_put_aside(tmp_path, clock):
    file = LogFile(tmp_path / "logs" / "fnrun.log", Rotation(size=100), clock)
    for n in range(3):
        file.write([b"%d" % n * 59 + b"\n"])
    assert aside_of(tmp_path / "logs") == [
        "fnrun.20241004T010000.000-1Z.log",
        "fnrun.20241004T010000.000Z.log",
    ]
    assert (tmp_path / "logs" / "fnrun.log").read_bytes() == b"2" * 59 + b"\n"


def test_a_new_day_begins_a_new_file_across_restarts_too(tmp_path, clock):
    path = tmp_path / "fnrun.log"
    LogFile(path, Rotation(), clock).write([b"yesterday\n"])
    os.utime(path, (NOW, NOW))
    LogFile(path, Rotation(), clock).write([b"today\n"])
    assert aside_of(tmp_path) == []
    os.utime(path, (NOW, NOW))
    clock.now += DAY
    LogFile(path, Rotation(), clock).write([b"tomorrow\n"])
    assert len(aside_of(tmp_path)) == 1
    assert path.read_bytes() == b"tomorrow\n"


def test_the_oldest_go_by_age_and_by_number_and_nobody_elses(tmp_path, clock):
    file = LogFile(tmp_path / "fnrun.log", Rotation(size=1, keep=10 * DAY, keep_files=3), clock)
    (tmp_path / "fnrun.mineZ.log").write_text("not ours")
    for _ in range(6):
        file.write([b"line\n"])
        os.utime(tmp_path / "fnrun.log", (clock.now, clock.now))
        clock.now += 60
    assert len(aside_of(tmp_path)) == 3 + 1
    clock.now += 11 * DAY
    file.write([b"line\n"])
    assert len(aside_of(tmp_path)) == 1
    assert (tmp_path / "fnrun.mineZ.log").exists()


def test_a_file_that_somebody_moves_or_removes_is_made_again(tmp_path):
    path = tmp_path / "logs" / "fnrun.log"
    file = LogFile(path)
    file.write([b"one\n"])
    path.rename(tmp_path / "moved")
    file.write([b"two\n"])
    for one in path.parent.iterdir():
        one.unlink()
    path.parent.rmdir()
    file.write([b"three\n"])
    assert path.read_bytes() == b"three\n"


WRITES = """
import sys, pathlib
from runtime.base.logs.files import LogFile, Rotation
file = LogFile(pathlib.Path(sys.argv[1]), Rotation(size=20_000, keep_files=10_000))
for n in range(2000):
    file.write([f"{sys.argv[2]} {n:05}\\n".encode()])
"""


def test_many_processes_write_one_file_and_no_line_is_lost_or_cut(tmp_path):
    path = tmp_path / "fnrun.log"
    command = [sys.executable, "-c", WRITES, str(path)]
    writers = [subprocess.Popen([*command, name]) for name in "abcd"]
    assert [one.wait(60) for one in writers] == [0] * 4
    files = [path, *(tmp_path / name for name in aside_of(tmp_path))]
    assert len(files) > 2
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert sorted(lines) == sorted(f"{name} {n:05}" for name in "abcd" for n in range(2000))


def test_a_killed_process_leaves_no_lock(tmp_path):
    path = tmp_path / "fnrun.log"
    LogFile(path).check()
    code = "import fcntl, os, sys, time; fd = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(fd, fcntl.LOCK_EX)"
    command = [
        sys.executable,
        "-c",
        code + "; print('held', flush=True); time.sleep(60)",
        str(tmp_path / ".fnrun.log.lock"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        LogFile(path).write([b"while it is held\n"])  # late, but there
        holder.kill()
    LogFile(path).write([b"and after\n"])
    assert path.read_bytes() == b"while it is held\nand after\n"


def test_a_file_that_cannot_be_is_told_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"^log\.file: .*fnrun\.log cannot be written: .*; name another"):
        LogFile(tmp_path / "file" / "fnrun.log").check()


def test_a_folder_may_be_named(tmp_path):
    assert path_of(tmp_path, "logs/") == tmp_path / "logs" / "fnrun.log"
    assert path_of(tmp_path, ".") == tmp_path / "fnrun.log"
    assert path_of(tmp_path, "logs/shop.jsonl") == tmp_path / "logs" / "shop.jsonl"
