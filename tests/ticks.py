"""A tick a second under three schedulers, of which the last to fire is killed all the time: what
tests/live/test_schedules.py does on a small scale, and `python -m tests.ticks` on any.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles

from runtime.base.store import Store
from tests.ledger.keys import stray_keys
from tests.live_schedulers import Ticks, check, schedulers_on, who_fired, write
from tests.live_servers import until
from tests.live_workers import Runs
from tests.stores import TcpStore

FUNCTIONS = """
    from runtime import interval

    @interval("1s", overlap="allow", missed="all", name="second")
    def tick() -> None:
        pass
"""
"""Whatever takes a busy machine more than ten seconds, no tick is left out."""
SCHEDULE = "ticks.tick:second"


def run(folder: Path, count: int, kills: int, every_seconds: float, schedulers: int = 3) -> dict[str, float]:
    """So many ticks and so many kills, at least; figures. every_seconds: between two kills."""
    root = write(folder, ticks=FUNCTIONS)
    with TcpStore(folder) as server, schedulers_on(server.url) as started:
        store = Store.open(folder, server.settings)
        runs = Runs(store)
        ticks = Ticks(runs)
        started.start_all(root, schedulers)
        killed = 0
        kill_at = time.monotonic() + every_seconds

        def kill_and_look() -> bool:
            nonlocal killed, kill_at
            last = [one for one in started.living() if who_fired(root)[-1:] == [one.process.pid]]
            if time.monotonic() > kill_at and last:
                last[0].kill()
                started.start(root)
                killed += 1
                kill_at = time.monotonic() + every_seconds
            return killed >= kills and ticks.entry(SCHEDULE).runs >= count

        until(kill_and_look, 10 * (count + kills * every_seconds))
        for one in started.living():
            one.stop()  # the latest may not have begun
        late = sorted(check(ticks.of("ticks.tick"), ticks.entry(SCHEDULE)))
        assert stray_keys(runs.client, store.namespace) == []
        fired = who_fired(root)
        runs.client.close()
        store.close()
    cuts = quantiles(late, n=100)
    return {
        "runs": len(late), "kills": killed, "who_fired": len(set(fired)),
        "late_p50_ms": round(cuts[49], 1), "late_p99_ms": round(cuts[98], 1), "late_max_ms": round(late[-1], 1),
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=300)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--every", type=float, default=20.0)
    parser.add_argument("--schedulers", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ticks", ignore_cleanup_errors=True) as temporary:
        found = run(Path(temporary), options.ticks, options.kills, options.every, options.schedulers)
        sys.stdout.write(f"{found}\n")
