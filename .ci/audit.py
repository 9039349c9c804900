"""Ask pip-audit about what requirements.lock ships: `audit.py PIP-AUDIT LOCK`. Called by `make audit`.

Exit 1 for a known fault, or if pip-audit itself is at fault. Where it cannot ask, that is told and passed over: no
network is no fault of the code. "Nothing found" of packages that nobody knows is not taken for good.
"""

import json
import subprocess
import sys

_AWAY = ("ConnectionError", "ProxyError", "ConnectTimeout", "ReadTimeout", "SSLError", "Tried to connect", "HTTPError")
_OPTIONS = ("--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off")
_PATIENCE_SECONDS = 300


def main(program: str, lock: str) -> int:
    """Print what was found; the exit code."""
    try:
        done = subprocess.run(
            [program, "--requirement", lock, *_OPTIONS],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        print(f"audit: passed over, for no answer came in {_PATIENCE_SECONDS} s")
        return 0
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return _failed(done.stderr)
    known = [one for one in found if "skip_reason" not in one]
    faults = [f"{one['name']} {one['version']}: {_said(fault)}" for one in known for fault in one["vulns"]]
    for line in faults:
        print(f"audit: {line}")
    if not known:
        print(f"audit: passed over: the service knows none of the {len(found)} packages; is it a mirror that cannot?")
    else:
        skipped = f"; {len(found) - len(known)} it does not know" if len(known) < len(found) else ""
        print(f"audit: {len(known)} packages, {len(faults)} known faults{skipped}")
    return 1 if faults else 0


def _said(fault: dict) -> str:
    fixed = ", ".join(fault.get("fix_versions") or ()) or "nothing yet"
    return f"{fault['id']}, mended by {fixed}"


def _failed(errors: str) -> int:
    last = (errors.strip().splitlines() or ["it said nothing"])[-1]
    if any(word in errors for word in _AWAY):
        print(f"audit: passed over, for the service cannot be reached: {last[:300]}")
        return 0
    print(f"audit: pip-audit failed: {errors.strip()[-2000:]}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
