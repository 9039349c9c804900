"""The document against the truth: schemathesis calls real servers with what it allows, and with what it forbids."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, SAMPLES
from tests.keys import key_for

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

CONFIG = ROOT / "tests" / "live" / "schemathesis.toml"


@pytest.mark.parametrize(
    ("project", "examples", "operations"),
    [(ROOT, 50, 5), (SAMPLES, 10, 80)],
    ids=["the examples", "the samples"],
)
def test_schemathesis_finds_nothing(project: Path, examples: int, operations: int, tmp_path: Path, start):
    """More of it by hand: other seeds, more examples (see CONTRIBUTING.md)."""
    shutil.copytree(project / "functions", tmp_path / "functions", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(project / "functions.toml", tmp_path)
    key = key_for(tmp_path, "read", "invoke")
    server = start(tmp_path, "serve", environ={"FNRUN_HTTP__BIND": "127.0.0.1:0", "WEBHOOK_SECRET": "w"})
    command = [
        *(sys.executable, "-m", "schemathesis.cli", f"--config-file={CONFIG}", "run", f"{server.url}/_/openapi.json"),
        *("--header", f"Authorization: Bearer {key}", "--max-examples", str(examples), "--seed", "1"),
    ]
    environ = os.environ | {"FNRUN_KEY": key, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tested = re.search(r"^  Tested: (\d+)$", done.stdout, re.MULTILINE)
    assert tested, done.stdout
    assert int(tested[1]) >= operations
    assert server.process.poll() is None
