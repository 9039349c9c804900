"""The access keys as one process knows them: looked up in memory, compared with the store while there are callers.

Held by the HTTP role's Access. A revoked key is refused within a second everywhere, a new one known at once. While the
store is away, the keys that are known go on for 10 minutes; then nobody can say who may call, and calls are refused.
"""

import asyncio
import time
from collections.abc import Callable
from contextvars import Context

from runtime.base.errors import StoreDown
from runtime.base.keys import Key, id_in
from runtime.base.logs import get_logger
from runtime.ledger.access.keys import read_keys
from runtime.ledger.desk import Desk

log = get_logger(__name__)

_LOOK_SECONDS = 0.5
"""How old what is known may be before the store is asked again: with the wait below, less than a second."""
_WAIT_SECONDS = 0.25
"""How long a caller waits for the store where keys are known: one that hangs shall not hold up everybody."""
_USED_SECONDS = 60.0
GRACE_SECONDS = 600.0
_NEVER = float("-inf")


class Keyring:
    """One event loop's view of the keys. `verify` looks in memory alone; `look` asks the store, where `is_due`."""

    def __init__(self, desk: Desk | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._desk = desk
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._version = "?"
        self._fresh_at = _NEVER  # of the last answer: when it was asked for
        self._next_look = _NEVER
        self._looking: asyncio.Task[None] | None = None
        self._used: dict[str, float] = {}
        self._to_tell: set[str] = set()

    def is_due(self) -> bool:
        """Whether the store is to be asked before anybody is let in."""
        return self._clock() >= self._next_look

    def verify(self, token: str) -> Key | None:
        """The key that a token is, of those that are known; None if unknown, revoked or expired."""
        key = self._keys.get(id_in(token))
        if key is None or not key.is_of(token) or key.expired:
            return None
        if key.id not in self._used:
            self._note_use(key.id)
        return key

    async def look(self) -> None:
        """Ask the store what has changed. StoreDown if nobody can say who may call.

        Callers of one moment share a question.
        """
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look(), context=Context())
        looking, known = self._looking, self._clock() - self._fresh_at < GRACE_SECONDS
        await asyncio.wait((looking,), timeout=_WAIT_SECONDS if known else None)
        if known:
            if not looking.done():  # it goes on beside the calls
                self._next_look = self._clock() + _LOOK_SECONDS
            return
        if self._clock() - self._fresh_at >= GRACE_SECONDS:
            raise StoreDown("the access keys are not known, as the store does not answer")

    async def look_for(self, token: str) -> bool:
        """Whether a token that is not known is a key after all: one that was just made. StoreDown if nobody can say."""
        asked = self._clock()
        if self._looking is not None:  # it may have been asked before the key was made
            await asyncio.wait((self._looking,))
        await self.look()
        if self.verify(token) is not None:
            return True
        if self._fresh_at < asked:
            raise StoreDown("whether this is a key is not known, as the store does not answer")
        return False

    async def _look(self) -> None:
        asked = self._clock()
        told, self._to_tell = self._to_tell, set()
        try:
            if self._desk is None:
                raise StoreDown("this process has no store")  # noqa: TRY301 - told like any other outage
            version, keys = await self._desk.ask(read_keys(self._desk.ledger, self._version, told))
            if keys is not None:
                self._keys = {key.id: key for key in keys}
            self._version, self._fresh_at = version, asked
        except StoreDown as error:
            self._to_tell |= told
            log.debug("access keys cannot be compared with the store", reason=str(error))
        finally:
            self._used = {key: at for key, at in self._used.items() if asked - at < _USED_SECONDS}
            self._next_look = self._clock() + _LOOK_SECONDS
            self._looking = None

    def _note_use(self, key_id: str) -> None:
        """Told by the next look; soon, even if nobody calls any more."""
        self._used[key_id] = self._clock()
        self._to_tell.add(key_id)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look(), context=Context())
