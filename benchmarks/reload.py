"""How long a saved file takes until `fnrun dev` serves it, beside a restart, which is what other reloaders do.

    python -P benchmarks/reload.py [--files 1 100 1000] [--saves 20]

For each number of files in functions/: the time from the end of the save to the first answer of the new version, over
one kept connection, with a call every 2 ms and its own time. "restart" is what `fnrun dev` itself takes for a change of
functions.toml, which starts a new process: what every save would cost without reload in place.
"""

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

FILE = """
import os
from runtime import http

@http.get("/f{number}")
async def handler() -> list[int]:
    return [{value}, os.getpid()]
"""


def save(root: Path, number: int, value: int) -> None:
    (root / "functions" / f"f{number}.py").write_text(FILE.format(number=number, value=value))


def wait_for(call, is_new) -> float:
    began = time.perf_counter()
    while not is_new(call().json()):
        time.sleep(0.002)
    return (time.perf_counter() - began) * 1000


def measure(files: int, saves: int) -> tuple[list[float], list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "functions").mkdir()
        for number in range(files):
            save(root, number, 0)
        command = [sys.executable, "-m", "runtime", "--dir", folder, "dev", "--bind", "127.0.0.1:0"]
        environ = os.environ | {"FNRUN_LOG__REQUESTS": "problems", "FNRUN_LOG__FORMAT": "json"}
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
        try:
            url = re.search(r'"url": "([^"]+)"', server.stdout.readline())[1]
            with httpx.Client(base_url=url, timeout=30) as client:
                client.get("/f0")
                reloads, restarts = [], []
                for value in range(1, saves + 1):
                    save(root, 0, value)
                    reloads.append(wait_for(lambda: client.get("/f0"), lambda found, value=value: found[0] == value))
                    time.sleep(0.2)
                for value in range(max(3, saves // 5)):
                    pid = httpx.get(f"{url}/f0").json()[1]
                    (root / "functions.toml").write_text(f"[http]\ntimeout = {value + 1}\n")
                    # A new connection for each call: those of the old process end with it.
                    restarts.append(wait_for(lambda: httpx.get(f"{url}/f0"), lambda found, pid=pid: found[1:] != [pid]))
                    time.sleep(0.5)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(10)
    return reloads, restarts


def shown(times: list[float]) -> str:
    return f"{statistics.median(times):4.0f} ms ({min(times):.0f} to {max(times):.0f})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--saves", type=int, default=20)
    given = parser.parse_args()
    print("files  save to served            restart")
    for files in given.files:
        reloads, restarts = measure(files, given.saves)
        print(f"{files:5}  {shown(reloads):24}  {shown(restarts)}")


if __name__ == "__main__":
    main()
