"""`fnrun` with a stand-in for its worker: it does what `stand_in.txt` in the project says, and prints what it hears."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import click

from runtime import cli, projects
from runtime.__main__ import main
from runtime.base.settings import load_settings
from runtime.cli import serving
from runtime.processes import Line, Message, end_without_parent

serving.PROGRAM = (sys.executable, __file__)


def say(text: str) -> None:
    """Print a line by one write: with PYTHONUNBUFFERED `print` makes two, and others' lines come in between."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@click.command("worker-child")
@click.option("--line", type=int, required=True)
@click.option("--pulse", type=int)  # which never beats: nobody minds
@click.option("--counts")  # where it counts nothing
@click.option("--announce", is_flag=True)
@click.option("--first", is_flag=True)
@click.pass_obj
def worker_child(root: Path, line: int, pulse: int, counts: str, announce: bool, first: bool) -> None:
    said = (root / "stand_in.txt").read_text() if (root / "stand_in.txt").exists() else ""
    say(f"worker {os.getpid()} begins" + " and announces" * announce)
    if "heir" in said and os.fork() == 0:  # it has the line, too
        while True:
            signal.pause()
    if "dies" in said:
        sys.exit(3)
    settings = load_settings(root)
    if "family" in said:
        subprocess.Popen(["sleep", "600"])
    if "deaf" in said:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # what a shell starts in the background ignores it
    if "stuck" in said:
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    sock = socket.socket(fileno=line)
    end_without_parent(sock, float(settings.settings.serve.drain) + 0.5)
    asyncio.run(work(sock, settings.settings.queue, deaf="deaf" in said, mute="mute" in said))
    say(f"worker {os.getpid()} leaves")
    projects.end_process(0)


async def work(sock: socket.socket, queue, *, deaf: bool, mute: bool) -> None:
    line = await Line.on(sock)
    task = asyncio.current_task()
    if not deaf:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    line.tell(Message("ready", functions=1, queues=list(queue.queues), concurrency=queue.concurrency))
    try:
        async for message in line.messages():
            say(f"worker {os.getpid()} hears {message.kind} {message.files}")
            if message.kind == "leave":
                return
            if mute:
                continue
            line.tell(Message("loading"))
            line.tell(Message("restart" if "functions/_lifespan.py" in message.files else "loaded"))
        if deaf:
            await asyncio.sleep(600)
    except asyncio.CancelledError:
        pass


cli.main.add_command(worker_child)
if __name__ == "__main__":
    cli.main() if "worker-child" in sys.argv else main()
