"""A desk for tests: on a real store, of this process, with the functions of a small project."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.base.settings import StoreSettings
from runtime.base.store import Store
from runtime.ledger.desk import Desk, in_use, use
from runtime.ledger.ledger import Ledger


@contextmanager
def desk_on(url: str, namespace: str, ledger: Ledger | None = None) -> Iterator[Desk]:
    """The desk of this process, until the end. ledger: one with a clock of its own."""
    store = Store.open(Path.cwd(), StoreSettings(url=url, namespace=namespace))
    desk, before = Desk(store, ledger or Ledger(namespace)), in_use()
    use(desk)
    try:
        yield desk
    finally:
        use(before)
        desk.close()
