"""The one store: where it is, that it can be relied on, and clients for it.

Opened by roles, by the workers and by scripts that submit; ledger and triggers use its clients, within `as_store_down`.
Never reads or writes a run.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from runtime.base.addresses import EMBEDDED, Address
from runtime.base.errors import StartError, StoreDown
from runtime.base.ids import new_run_id
from runtime.base.logs import get_logger
from runtime.base.sections import StoreSettings

log = get_logger(__name__)

CONNECT_SECONDS = 1.5
ANSWER_SECONDS = 3.0
"""With the wait for a free connection, a caller hears within 5 s that the store does not answer."""

_FREE_CONNECTION_SECONDS = 0.4
_LOAD_SECONDS = 300.0
_POLL_SECONDS = 0.05
_OLDEST = {"valkey": (7, 2), "redis": (7, 0)}
_FSYNC = {"always": "fsync at each write", "everysec": "fsync each second", "no": "fsync when the system does"}
_REFUSALS = (
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.MasterDownError,
    redis.exceptions.NoPermissionError,
)
_REFUSED = ("MISCONF ", "NOREPLICAS ", "UNBLOCKED ", "BUSY ", "ACL failure ")
"""A full disk, too few replicas, a failover, a script without end, a command that a script may not use."""


@contextmanager
def as_store_down() -> Iterator[None]:
    """Within: what a client raises because the store is away, or does not do its work, is StoreDown."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:  # a wrong password and LOADING are the first
        raise StoreDown(f"the store does not answer: {error}") from error
    except redis.ResponseError as error:
        if isinstance(error, _REFUSALS) or str(error).startswith(_REFUSED):
            raise StoreDown(f"the store does not do its work: {error}") from error
        raise
    except (RuntimeError, AttributeError) as error:
        # What uvloop, and asyncio (its writelines) from Python 3.12 on, say of a connection that was reset just now;
        # redis-py takes it for a fault of its own.
        if not any(word in str(error) for word in ("closed", "_add_writer")):
            raise
        raise StoreDown(f"the store has hung up: {error}") from error


class Store:
    """An open store. Make it with `open`.

    namespace: each key begins with it and a colon. where: for people, without a password. durability: what survives
    what, for /_/health. broker_url: for kombu and Celery; has the password in it.
    """

    def __init__(self, address: Address, namespace: str, where: str, embedded: Any = None) -> None:
        self.namespace = namespace
        self.where = where
        self.durability = "not known"
        self.broker_url = address.broker_url
        self._address = address
        self._embedded = embedded
        self._again = False

    @classmethod
    def open(cls, root: Path, settings: StoreSettings, *, again: bool = False) -> Self:
        """Reach the store of the project in `root`, check that it can be relied on; start the embedded one if need be.

        Blocks. StartError says what is wrong; what is only unwise is logged as a warning. again: a parent process has
        done all that: what is unwise is not said twice, and a store that is away for the moment is no reason to end.
        """
        if settings.url == EMBEDDED:
            try:
                from runtime.base.embedded import Embedded  # noqa: PLC0415 - it cannot be loaded on Windows
            except ImportError:
                raise StartError("the embedded store needs Linux or macOS: set [store] url to a server's") from None
            embedded = Embedded.open(root)
            address = Address(scheme="unix", path=str(embedded.path))
            store = cls(address, settings.namespace, "embedded (.fnrun/store)", embedded)
        else:
            try:
                address = Address.parse(settings.url)
            except ValueError as error:
                raise StartError(f"store.url: {error}") from None
            store = cls(address, settings.namespace, address.where)
        store._again = again
        try:
            store._check()
        except StartError as error:
            if not again:
                store.close()
                raise
            log.warning("the store cannot be asked now", reason=str(error))
        except BaseException:
            store.close()
            raise
        return store

    def connect(self, *, timeout_seconds: float | None = ANSWER_SECONDS, connections: int = 256) -> redis.Redis:
        """A new client with connections of its own, for threads. Close it when done.

        timeout_seconds: how long an answer may take; more than a blocking command's own, None for ever.
        Nothing is tried twice: a command whose answer did not come may have been carried out.
        """
        kind = {"redis": redis.Connection, "rediss": redis.SSLConnection, "unix": redis.UnixDomainSocketConnection}
        options = {**self._options(timeout_seconds), "retry": Retry(NoBackoff(), 0)}
        pool = redis.ConnectionPool(kind[self._address.scheme], max_connections=connections, **options)
        return redis.Redis.from_pool(pool)

    def connect_async(
        self, *, timeout_seconds: float | None = ANSWER_SECONDS, connections: int = 64
    ) -> redis.asyncio.Redis:
        """A new client for one event loop; see connect. With all connections busy, a caller waits a moment for one."""
        kind: dict[str, Any] = {
            "redis": redis.asyncio.Connection,
            "rediss": redis.asyncio.SSLConnection,
            "unix": redis.asyncio.UnixDomainSocketConnection,
        }
        options = {**self._options(timeout_seconds), "retry": AsyncRetry(NoBackoff(), 0)}
        pool = redis.asyncio.BlockingConnectionPool(
            max_connections=connections,
            timeout=_FREE_CONNECTION_SECONDS,
            connection_class=kind[self._address.scheme],
            **options,
        )
        return redis.asyncio.Redis.from_pool(pool)

    def close(self) -> None:
        """Use it no more. Clients are closed by who made them; the embedded store ends with its last user."""
        if self._embedded is not None:
            self._embedded.close()

    def _options(self, timeout_seconds: float | None) -> dict[str, Any]:
        options: dict[str, Any] = {
            **self._address.options,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": timeout_seconds,
            "protocol": 2,  # one round trip less a connection
            "driver_info": None,  # two less
        }
        if self._address.scheme != "unix":
            options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)  # a vendor's cloud's
        return options

    def _warn(self, event: str, **fields: Any) -> None:
        if not self._again:
            log.warning(event, **fields)

    def _check(self) -> None:
        with self.connect() as client:
            try:
                self._reach(client)
                self._check_server(ask_if_permitted(client.info, "server", "cluster", "replication"))
                self._try_a_write(client)
                self._say_how_durable(
                    ask_if_permitted(client.info, "persistence", "memory"),
                    ask_if_permitted(client.config_get, "save", "appendfsync"),
                )
            except (redis.RedisError, OSError) as error:
                raise StartError(f"the store at {self.where} {_fault(error, self._address)}") from error

    def _reach(self, client: redis.Redis) -> None:
        """Ask for a sign of life. While it loads its data, wait."""
        began = time.monotonic()
        said = False
        while True:
            try:
                client.ping()
            except redis.BusyLoadingError:
                waited_seconds = time.monotonic() - began
                if waited_seconds > _LOAD_SECONDS:
                    raise
                if waited_seconds > 1 and not said:
                    log.info("the store is loading its data", store=self.where)
                    said = True
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _check_server(self, info: Mapping[str, Any] | None) -> None:
        if info is None:
            self._warn("the store's version cannot be checked: INFO is not permitted", store=self.where)
            return
        name = "valkey" if "valkey_version" in info else "redis"
        version = str(info.get(f"{name}_version", "0"))
        if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < _OLDEST[name]:
            raise StartError(
                f"the store at {self.where} is {name.title()} {version}, which is too old; "
                "use Valkey 7.2 or later, or Redis 7.0 or later"
            )
        if info.get("cluster_enabled"):
            raise StartError(
                f"the store at {self.where} is a node of a Redis Cluster, which is not supported: a run's keys would "
                "be on several nodes; use one server, and another for a part of the functions if one is not enough"
            )
        if info.get("role") == "slave":
            raise StartError(f"the store at {self.where} is a replica, which only reads; give the primary's address")

    def _try_a_write(self, client: redis.Redis) -> None:
        # All at once, as the ledger's scripts do it: one that is refused in its midst would have done the half of it.
        script = (
            "redis.call('SET', KEYS[1], '1', 'PX', '1000') redis.call('PUBLISH', ARGV[1], '1') "
            "return redis.call('DEL', KEYS[1])"
        )
        name = f"{self.namespace}:check:{new_run_id()}"
        client.eval(script, 1, name, name)

    def _say_how_durable(self, info: Mapping[str, Any] | None, config: Mapping[str, Any] | None) -> None:
        """Set durability; warn, loudly, of what can lose runs."""
        if info is None or config is None:
            self._warn(
                "the store's persistence cannot be checked: a command is not permitted; make sure that it has an "
                "append-only file, and maxmemory-policy noeviction",
                store=self.where,
                command="INFO" if info is None else "CONFIG",
            )
        info, config = info or {}, config or {}
        save, kept = config.get("save"), info.get("aof_enabled")
        if kept is None:
            self.durability = "not known"
        elif kept:
            fsync = config.get("appendfsync", "") if self._embedded is None else "everysec"  # its keeper does it
            self.durability = f"append-only file, {_FSYNC.get(fsync, 'fsync not known')}"
        elif save:
            self.durability = f"snapshots alone (save {save}): what came after the last one is lost with the server"
        elif save is None:
            self.durability = "no append-only file"
        else:
            self.durability = "none: all is lost with the server"
        if kept is not None and not kept:
            self._warn(
                "THE STORE LOSES RUNS when its server dies: it has no append-only file; set `appendonly yes` there",
                store=self.where,
                durability=self.durability,
            )
        if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
            self.durability += f"; evicts keys ({policy})"
            self._warn(
                "THE STORE LOSES RUNS when its memory is full: it evicts keys; set `maxmemory-policy noeviction` there",
                store=self.where,
                policy=policy,
            )


def ask_if_permitted(command: Any, *arguments: str) -> Mapping[str, Any] | None:
    """The answer of INFO or CONFIG; None if that is not permitted, or not there, as in some clouds."""
    try:
        found: Mapping[str, Any] = command(*arguments)
    except redis.ResponseError:
        return None
    return found


_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (redis.AuthenticationError, "refuses the user or the password ({}); correct store.url: redis://user:password@host"),
    (redis.BusyLoadingError, "is still loading its data ({}); start again when it is done"),
    (redis.TimeoutError, "does not answer in time ({}); see that it runs, and that nothing between holds it up"),
    (redis.ConnectionError, "cannot be reached ({}); start it, or correct store.url"),
    (
        redis.exceptions.NoPermissionError,
        "does not permit what is needed ({}); let the user run scripts, and use all keys and channels of the namespace",
    ),
    (Exception, "refuses what is needed ({}); see its configuration"),
)


def _fault(error: Exception, address: Address) -> str:
    """What is wrong, and the fix, after "the store at X"."""
    text = str(error)
    if isinstance(error, redis.AuthenticationError) and not address.password:
        return "wants a password; set it in store.url, redis://:password@host, best by FNRUN_STORE__URL"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"has a certificate that does not verify ({text}); name its authority: rediss://...?ssl_ca_certs=FILE"
    if text.startswith("ACL failure"):  # as a script is told
        error = redis.exceptions.NoPermissionError(text)
    said = next(said for kind, said in _FAULTS if isinstance(error, kind)).format(text)
    if address.scheme == "rediss" and ("SSL" in text or "connecting" in text):
        return f"{said}; if it speaks no TLS, write redis://"
    hung_up = "closed by server" in text or "reset by peer" in text
    return f"{said}; if it speaks TLS, write rediss://" if hung_up and address.scheme == "redis" else said
