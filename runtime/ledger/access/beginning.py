"""What is done about access keys when a process begins to serve: an older version's file, and the very first key.

Called by the HTTP role. An outage of the store does not keep it from serving.
"""

import sys
from pathlib import Path

from runtime.base.errors import StoreDown
from runtime.base.logs import get_logger
from runtime.ledger.access.keys import create_first_key, take_over_file
from runtime.ledger.desk import Desk

log = get_logger(__name__)


async def take_over_keys(desk: Desk, root: Path) -> None:
    """Have the keys of `.fnrun/keys.json` in the store. StartError if the file cannot be read."""
    try:
        await take_over_file(desk, root)
    except StoreDown as error:
        log.warning("the keys of .fnrun/keys.json are not in the store; the next start tries again", reason=str(error))


async def show_first_key(desk: Desk) -> None:
    """Where there is no key at all: make one, and print it, this once."""
    try:
        token = await create_first_key(desk)
    except StoreDown as error:
        log.warning("whether there is an access key is not known; `fnrun keys create` makes one", reason=str(error))
        return
    if token:
        sys.stderr.write(f"First access key, shown this once: {token}\n")
        sys.stderr.flush()
