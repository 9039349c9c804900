"""Plain scripts that submit: `python script.py` in a project's folder, nothing set up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

ORDERS = """
    from runtime import queue

    print("orders are imported")

    @queue("orders")
    async def create(customer: str, size: int = 1) -> int:
        return size
"""
SCRIPT = """
    import asyncio
    from functions.orders import create
    from runtime import Run, submit, submit_sync

    first = submit_sync(create, customer="c1")
    print(first.state(), first.known)

    async def main():
        later = await submit.using(delay="1h")("orders.create", customer="c2")
        print(await later.state(), await later.cancel(), await Run(later.id).state(), await Run(first.id).state())
        try:
            await submit("orders.create", customer=2)
        except Exception as error:
            print(type(error).__name__)

    asyncio.run(main())
    asyncio.run(main())
    print(submit_sync.using(id="mine")("orders.create", customer="c3").known)
"""
SAID = """\
orders are imported
queued False
scheduled cancelled cancelled queued
SubmitError
scheduled cancelled cancelled queued
SubmitError
"""


def run(file: Path, cwd: Path, **environ: str) -> str:
    """What a script prints; it must have nothing to complain of."""
    words = [sys.executable, "-W", "error", file]
    env = {**os.environ, **environ}
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=40, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def test_a_script_submits_with_and_without_a_loop(write_project, tmp_path):
    root = write_project(**{"functions/orders.py": ORDERS, "script.py": SCRIPT})
    assert run(root / "script.py", root) == SAID + "False\n"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert run(root / "script.py", elsewhere) == SAID + "True\n"
    other = elsewhere / "other.py"
    other.write_text("from runtime import SyncRun\nprint(SyncRun('mine').state())\n")
    assert run(other, elsewhere, FNRUN_DIR=str(root)) == "queued\n"


def test_a_script_outside_of_a_project_is_told_where_to_run(tmp_path):
    file = tmp_path / "script.py"
    file.write_text("from runtime import submit_sync\nsubmit_sync('orders.create')\n")
    done = subprocess.run([sys.executable, file], cwd=tmp_path, capture_output=True, text=True, timeout=40, check=False)
    assert done.stderr.endswith(
        "folder in " + str(tmp_path) + ": run the script in the project's folder, or set FNRUN_DIR\n"
    )
    assert not (tmp_path / ".fnrun").exists()
