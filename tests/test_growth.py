"""benchmarks/growth.py: that it measures at all. What it finds is nobody's to judge here."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent.parent / "benchmarks" / "growth.py"


def test_it_tells_what_runs_and_minutes_cost(tmp_path):
    command = [sys.executable, "-P", PROGRAM, "--quick", "--only", "runs,minutes", "--json", tmp_path / "found"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found").read_text())
    assert {row["functions"] for row in found["runs"]} == {1, 20}
    assert all(300 < row["bytes_a_run"] < 3000 for row in found["runs"] if row["bytes_a_run"])
    assert 20 < found["minutes"][-1]["megabytes_a_day"] / 20 * 1000 < 60, "of a thousand functions"


def test_it_names_the_parts_there_are():
    done = subprocess.run(
        [sys.executable, "-P", PROGRAM, "--only", "sums"], capture_output=True, text=True, check=False
    )
    assert "write some of http, worker" in done.stderr
