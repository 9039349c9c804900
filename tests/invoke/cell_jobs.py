"""A zygote for tests/invoke/test_cells.py: its cells do what the job's first word says, with the rest."""

import argparse
import asyncio
import atexit
import contextlib
import ctypes
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from runtime.zygote import serve_cells

_LONG_SECONDS = 60


def block(seconds):
    time.sleep(seconds)


def descriptors():
    return list(Path("/proc/self/fd").iterdir())


def sleeping_program():
    return subprocess.Popen(["sleep", str(_LONG_SECONDS)])


async def echo(rest, _tell):
    return rest


async def grow(rest, _tell):
    return b"x" * int(rest)


async def pids(_rest, _tell):
    return b"%d %d %d" % (os.getpid(), os.getppid(), os.getpgid(0))


async def surroundings(_rest, _tell):
    return b"%r %d %d" % (sys.stdin.read(), signal.getsignal(signal.SIGCHLD), len(descriptors()))


async def draw(_rest, _tell):
    return b"%f" % random.random()


async def count(rest, tell):
    for number in range(int(rest)):
        tell(b"%d" % number)
        await asyncio.sleep(0)
    return b"done"


async def tell_from_thread(_rest, tell):
    await asyncio.gather(*(asyncio.to_thread(tell, b"x" * 100_000) for _ in range(20)))
    return b"done"


async def leave(rest, _tell):
    sys.exit(eval(rest))


async def leave_at_once(rest, _tell):
    os._exit(int(rest))


async def segfault(_rest, _tell):
    ctypes.string_at(0)


async def print_and_die(_rest, _tell):
    print("the last words")
    ctypes.string_at(0)


async def kill(rest, _tell):
    os.kill(os.getpid(), int(rest))
    return b"alive"


async def kill_parent(_rest, _tell):
    os.kill(os.getppid(), signal.SIGKILL)
    await asyncio.sleep(_LONG_SECONDS)


async def fail(_rest, _tell):
    raise ValueError("it failed")


async def want_memory(_rest, _tell):
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    return b"x" * 2**31


async def close_everything(_rest, _tell):
    os.closerange(0, 4096)
    await asyncio.sleep(_LONG_SECONDS)


async def close_everything_in_thread(_rest, _tell):
    await asyncio.to_thread(os.closerange, 0, 4096)


async def hang_up(_rest, _tell):
    """All sockets are closed, the loop runs on."""
    for path in descriptors():
        if path.exists() and path.is_socket():
            os.dup2(0, int(path.name))
    await asyncio.sleep(_LONG_SECONDS)


async def write_nonsense(_rest, _tell):
    for fd in range(3, 100):
        try:
            os.write(fd, b"\xff" * 1000)
        except OSError:
            continue
    await asyncio.sleep(_LONG_SECONDS)


async def fork(_rest, tell):
    if os.fork() == 0:
        tell(b"from the grandchild")
        return b"grandchild"
    block(0.1)
    return b"child"


async def fork_in_thread(_rest, _tell):
    return b"%d" % await asyncio.to_thread(os.fork)


async def leave_a_fork_behind(_rest, tell):
    pid = os.fork()
    if pid == 0:
        block(_LONG_SECONDS)
    tell(b"%d" % pid)
    os._exit(5)


async def leave_an_escaped_fork_behind(_rest, tell):
    pid = os.fork()
    if pid == 0:
        os.setsid()
        block(20)
        os._exit(0)
    tell(b"%d" % pid)
    block(0.1)
    os._exit(5)


async def start_program(_rest, tell):
    program = sleeping_program()
    tell(b"%d %d %d" % (os.getpid(), os.getppid(), program.pid))
    await asyncio.sleep(_LONG_SECONDS)


async def block_loop(_rest, tell):
    tell(b"%d %d" % (os.getpid(), os.getppid()))
    block(_LONG_SECONDS)


async def block_python(_rest, tell):
    tell(b"%d %d" % (os.getpid(), os.getppid()))
    ctypes.PyDLL(None).sleep(_LONG_SECONDS)  # holds the GIL


async def wait(_rest, tell):
    tell(b"%d %d" % (os.getpid(), os.getppid()))
    await asyncio.sleep(_LONG_SECONDS)


async def nap(rest, tell):
    tell(b"began")
    await asyncio.sleep(float(rest))
    return b"%d" % os.getppid()


async def work_on_after_answer(_rest, _tell):
    """A thread that holds the GIL when the answer is given: the cell does not end by itself."""
    atexit.register(ctypes.PyDLL(None).sleep, _LONG_SECONDS)
    return b"answered"


async def register_at_exit(rest, _tell):
    atexit.register(os.mkdir, os.fsdecode(rest))
    return b""


async def begin_late(rest, tell):
    await asyncio.sleep(float(rest))
    tell.begin()
    return b"began"


async def leave_after(_rest, tell):
    tell.last = True
    return b"%d" % os.getpid()


async def tell_later(_rest, tell):
    threading.Timer(0.1, tell, [b"from the job before"]).start()
    return b"done"


def daemon(tell):
    """A process whose parent dies at once, in a session of its own."""
    if (child := os.fork()) == 0:
        os.setsid()
        if (pid := os.fork()) == 0:
            block(_LONG_SECONDS)
        os._exit(0 if pid else 1)
    os.waitpid(child, 0)
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = path.read_text().rpartition(") ")[2].split()
        if int(fields[3]) == child:  # its session
            tell(path.parent.name.encode())


async def leave_a_daemon(_rest, tell):
    daemon(tell)
    return b"done"


async def leave_a_daemon_and_die(_rest, tell):
    daemon(tell)
    os._exit(3)


async def daemon_and_wait(_rest, tell):
    daemon(tell)
    await asyncio.sleep(_LONG_SECONDS)


async def environment(_rest, _tell):
    seen = await asyncio.to_thread(Path("/proc/self/environ").read_text)
    return f"{seen}{sorted(os.environ)}{GIVEN}".encode()


GIVEN = ""


def read_given():
    if arguments.given is not None:
        globals()["GIVEN"] = os.pread(arguments.given, 100, 0).decode()


async def perform_any(job, tell):
    name, _, rest = job.partition(b" ")
    if name != b"begin_late":
        tell.begin()
    return await globals()[name.decode()](rest, tell)


def prepare():
    read_given()
    if os.environ.get("CELL_JOBS") == "hang":
        time.sleep(_LONG_SECONDS)
    if os.environ.get("CELL_JOBS") == "fail":
        raise SystemExit("the functions do not load")
    if os.environ.get("CELL_JOBS") == "thread":
        threading.Thread(target=time.sleep, args=(_LONG_SECONDS,), name="sampler", daemon=True).start()
    if os.environ.get("CELL_JOBS") == "print":
        print("loading")
    atexit.register(print, "the zygote's own")

    @contextlib.asynccontextmanager
    async def opens():
        yield perform_any
        if os.environ.get("CELL_JOBS") == "close":
            print("closed")

    return opens


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--line", type=int)
    parser.add_argument("--given", type=int)
    parser.add_argument("--alone", action="store_true")
    arguments = parser.parse_args()
    loop_factory = None
    if os.environ.get("CELL_LOOP") == "uvloop":
        import uvloop

        loop_factory = uvloop.new_event_loop
    line = socket.socket(fileno=arguments.line)
    serve_cells(line, prepare, alone=arguments.alone, loop_factory=loop_factory, given=arguments.given)
