"""`make audit`, with programs in pip-audit's place that answer as it does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

GOOD = {"name": "click", "version": "8.5", "vulns": []}
BAD = {"name": "vine", "version": "5.1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["5.2"]}]}
UNKNOWN = {"name": "mine", "skip_reason": "Dependency not found on PyPI and could not be audited"}
AWAY = "Traceback ...\nrequests.exceptions.ConnectionError: HTTPSConnectionPool(...): Max retries exceeded"


@pytest.mark.parametrize(
    ("told", "error", "code", "said"),
    [
        ([GOOD], "No known vulnerabilities found", 0, "1 packages, 0 known faults"),
        ([GOOD, BAD], "Found 1", 1, "vine 5.1: PYSEC-1, mended by 5.2"),
        ([GOOD, UNKNOWN], "", 0, "1 it does not know"),
        ([UNKNOWN], "No known vulnerabilities found", 0, "passed over: the service knows none"),
        (None, AWAY, 0, "passed over, for the service cannot be reached"),
        (None, "error: unrecognized arguments", 1, "pip-audit failed: error: unrecognized"),
    ],
    ids=["well", "a known fault", "one unknown", "all unknown", "no network", "its own fault"],
)
def test_what_an_audit_comes_to(tmp_path: Path, told, error, code, said):
    answer = "" if told is None else json.dumps({"dependencies": told})
    program = tmp_path / "pip-audit"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nprint({answer!r})\nsys.stderr.write({error!r})\n"
        f"sys.exit({int(told is None or BAD in told)})\n"
    )
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit.py", program, "x.lock"], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert said in done.stdout + done.stderr
