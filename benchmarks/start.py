"""Measure cold starts and idle memory: from the start of a process until it has answered, and what it then holds.

By hand: `python -P benchmarks/start.py`; --help tells the options. Ours: all roles, HTTP alone, HTTP alone with 100
files. Peers, one worker each: those whose environments `make bench` has set up; the rest is passed over. In turn; the
store is new each time. Bytecode is there: the first round of each is not counted. Never judges a time.

The environment of the tests has more than is shipped, and structlog and redis-py load rich and OpenTelemetry wherever
these are installed: 0.1 s in each process. --python names the Python of an environment made from requirements.lock.

RSS counts a page for each process that has it, PSS shares it among them: the sum of PSS is what a machine lacks.
"""

import argparse
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent / ".venv-bench"
_PATIENCE_SECONDS = 60.0
_SETTLE_SECONDS = 3.0
_END_SECONDS = 30.0

APPS = {
    "starlette": """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def hello(request):
    return JSONResponse({"message": request.query_params.get("name", "x")})


app = Starlette(routes=[Route("/hello", hello)])
""",
    "fastapi": """
from fastapi import FastAPI

app = FastAPI()


@app.get("/hello")
async def hello(name: str = "x") -> dict[str, str]:
    return {"message": name}
""",
    "functions-framework": """
def hello(request):
    return {"message": request.args.get("name", "x")}
""",
}
COMMANDS = {
    "starlette": ("uvicorn", "--log-level", "warning", "--port", "{port}", "app:app"),
    "fastapi": ("uvicorn", "--log-level", "warning", "--port", "{port}", "app:app"),
    "functions-framework": (
        "functions-framework", "--source", "app.py", "--target", "hello", "--host", "127.0.0.1", "--port", "{port}",
    ),
}  # fmt: skip


def folders(root: Path, python: str) -> Iterator[tuple[str, list[str]]]:
    """Names, and the commands that start them in root/<name>; "{port}" stands for one that is free."""
    ours = [python, "-P", "-m", "runtime", "--dir", ".", "serve", "--bind", "127.0.0.1:{port}"]
    for name, more in (("fnrun", ()), ("fnrun http", ("--only", "http")), ("fnrun http 100", ("--only", "http"))):
        shutil.copytree(HERE / "apps" / "start", root / name)
        for number in range(99 if name.endswith("100") else 0):
            text = f'from runtime import http\n\n\n@http.get("/f{number}")\nasync def f(x: int) -> int:\n    return x\n'
            (root / name / "functions" / f"f{number}.py").write_text(text)
        yield name, [*ours, *more]
    for name, command in COMMANDS.items():
        program = ENVIRONMENTS / name / "bin" / command[0]
        if not program.exists():
            print(f"{name}: passed over, for `make bench` has set up no {program}", flush=True)
            continue
        (root / name).mkdir()
        (root / name / "app.py").write_text(APPS[name])
        yield name, [str(program), *command[1:]]


def start(folder: Path, command: list[str]) -> tuple[float, list[tuple[float, float]]]:
    """Seconds until the first answer, and RSS and PSS in MB of each process, once they have settled."""
    shutil.rmtree(folder / ".fnrun", ignore_errors=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPATH"] = str(HERE.parent) if "runtime" in command else ""
    began = time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    given = [part.replace("{port}", str(port)) for part in command]
    process = subprocess.Popen(given, cwd=folder, env=environ, start_new_session=True, **quiet)
    try:
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > began + _PATIENCE_SECONDS:
                raise SystemExit(f"{' '.join(given)} does not answer")
            time.sleep(0.005)
        took = time.monotonic() - began
        time.sleep(_SETTLE_SECONDS)
        return took, [memory for pid in _family(process.pid) if (memory := _memory(pid))]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_SECONDS)
    try:
        connection.request("GET", "/hello")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _family(pid: int) -> Iterator[int]:
    """A process, and all that descend from it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from _family(int(child))


def _memory(pid: int) -> tuple[float, float] | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None  # it has ended
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return kilobytes["Rss"] / 1024, kilobytes["Pss"] / 1024


def report(name: str, rounds: list[tuple[float, list[tuple[float, float]]]]) -> str:
    """A line of what came of the rounds."""
    times = [took for took, _ in rounds]
    memory = rounds[-1][1]
    rss, pss = sum(one[0] for one in memory), sum(one[1] for one in memory)
    largest = max(memory)
    return (
        f"{name:20} first answer {median(times):.2f} s ({min(times):.2f}-{max(times):.2f}); {len(memory)} processes, "
        f"RSS {rss:.0f} MB, PSS {pss:.0f} MB; the largest {largest[0]:.0f} and {largest[1]:.0f} MB"
    )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help='one of them: "fnrun", "fnrun http", "fnrun http 100", or a peer')
    parser.add_argument("--python", default=sys.executable, help="what runs ours; by default what runs this")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench"))
    try:
        commands: Mapping[str, list[str]] = dict(folders(root, options.python))
        chosen = [name for name in commands if options.only in (None, name)]
        rounds: dict[str, list[tuple[float, list[tuple[float, float]]]]] = {name: [] for name in chosen}
        for _ in range(options.rounds + 1):
            for name in chosen:
                rounds[name].append(start(root / name, commands[name]))
        for name in chosen:
            print(report(name, rounds[name][1:]), flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
