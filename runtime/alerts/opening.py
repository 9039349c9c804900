"""Begin to look at alerts, where there is a rule at all.

Called by each role. Loads what sends only where something may have to be sent.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.ledger.desk import Desk


def open_watch(desk: "Desk", root: Path, *, delay_seconds: float = 0.0) -> Callable[[], None]:
    """Begin, after so long: roles that have little to do come first. Returns what ends that."""
    if not any(table.enabled for table in desk.settings.alerts.values()):
        return lambda: None
    from runtime.alerts.watch import Watch  # noqa: PLC0415 - it loads an HTTP client

    watch = Watch(desk, root, delay_seconds=delay_seconds)
    watch.start()
    return watch.stop
