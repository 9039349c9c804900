"""The environments of the peers: one each, made on first use from peers/<name>.txt, and kept.

Called by web and jobs. What cannot be installed is told, and passed over; ours is the environment this runs in.
"""

import shutil
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
FOLDER = BENCHMARKS.parent / ".venv-bench"
OURS = "fnrun"
_INSTALL_SECONDS = 600


class NotInstalledError(Exception):
    """What a peer needs is not to be had; says why."""


def requirements(name: str) -> list[str]:
    """What the environment is made of: pinned."""
    return [] if name == OURS else (BENCHMARKS / "peers" / f"{name}.txt").read_text().split()


def prepare(name: str) -> Path:
    """The python of an environment, made if need be."""
    if name == OURS:
        return Path(sys.executable)
    folder = FOLDER / name
    python, stamp = folder / "bin" / "python", folder / "made-from"
    wanted = "\n".join((sys.version, *requirements(name)))
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"setting up {name} (once)", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / ".gitignore").write_text("*\n")
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements(name)])
        stamp.write_text(wanted)
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(str(error)) from None
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines()
        raise NotInstalledError(next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "?"))
