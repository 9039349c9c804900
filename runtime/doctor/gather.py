"""Find out the facts of an installation. Asks the store, HTTP and the machine; changes nothing, judges nothing.

Called by the command `fnrun doctor`. What cannot be found out is left out; a store that is away is a fact.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from runtime.alerts.rules import unknown_runs
from runtime.base.addresses import EMBEDDED, Address
from runtime.base.errors import StartError, StoreDown
from runtime.base.sections import Settings
from runtime.base.store import as_store_down, ask_if_permitted
from runtime.declare.triggers import Cron, Http
from runtime.doctor.checks.access import is_loopback
from runtime.doctor.facts import Code, Facts, Process, Roles, StoreFacts, Work
from runtime.doctor.http import ask_http
from runtime.doctor.machine import machine_of
from runtime.ledger.desk import Desk, open_desk
from runtime.projects import Project, load_project
from runtime.triggers.queue.plans import plan_runs

_ROUNDS = 5


def gather(root: Path) -> Facts:
    """All facts of the project in `root`. Blocks for some seconds at most. SettingsError."""
    project = load_project(root)
    settings = project.settings
    store, roles, work = _ask_store(root, settings)
    return Facts(
        settings=settings,
        machine=machine_of(root, _zones(project)),
        store=store,
        code=_code(project),
        roles=roles,
        work=work,
    )


def _code(project: Project) -> Code:
    registry, auth = project.registry, project.settings.http.auth
    public = {
        function.name
        for function in registry.functions.values()
        for trigger in function.triggers
        if isinstance(trigger, Http) and (trigger.auth or auth) == "public"
    }
    return Code(
        functions=tuple(registry.functions),
        served_only=frozenset(registry.functions) - frozenset(plan_runs(registry.functions.values())),
        failures=tuple(str(failure) for failure in registry.failures),
        served=registry.lifespan is not None,
        public=tuple(sorted(public)),
        memory={
            function.name: function.policy.memory_bytes
            for function in registry.functions.values()
            if function.policy.memory_bytes is not None
        },
        alerts=tuple(unknown_runs(project.settings, registry.functions)),
    )


def _zones(project: Project) -> set[str]:
    """The time zones that settings and functions name."""
    triggers = [trigger for function in project.registry.functions.values() for trigger in function.triggers]
    named = {trigger.tz for trigger in triggers if isinstance(trigger, Cron) and trigger.tz}
    return {str(project.settings.schedule.timezone), *named}


def _ask_store(root: Path, settings: Settings) -> tuple[StoreFacts, Roles | None, Work | None]:
    facts = _store_of(settings)
    try:
        with closing(open_desk(root, settings)) as desk:
            facts = _measured(desk, facts)
            roles, dead = _alive(desk)
            queues = desk.ask_sync(desk.ledger.queues())
            work = Work(queues=tuple(queues), dead=dead)
    except (StartError, StoreDown) as error:
        return msgspec.structs.replace(facts, error=str(error)), None, None
    if "http" in settings.serve.only:
        version, fault = ask_http(settings.http)
        roles = msgspec.structs.replace(roles, http=fault, http_version=version)
    return facts, roles, work


def _store_of(settings: Settings) -> StoreFacts:
    """What its address says."""
    if settings.store.url == EMBEDDED:
        return StoreFacts(where="embedded (.fnrun/store)", embedded=True)
    address = Address.parse(settings.store.url)
    return StoreFacts(
        where=address.where,
        loopback=address.scheme == "unix" or is_loopback(f"{address.host}:{address.port}"),
        tls=address.scheme == "rediss",
        password=bool(address.password),
    )


def _measured(desk: Desk, facts: StoreFacts) -> StoreFacts:
    """What the server itself says."""
    with desk.store.connect() as client, as_store_down():
        skew, took = _skew(client)
        info = ask_if_permitted(client.info) or {}
        config = ask_if_permitted(client.config_get, "save", "appendfsync", "maxclients") or {}
    kind = "valkey" if "valkey_version" in info else "redis"
    kept = info.get("aof_enabled")
    return msgspec.structs.replace(
        facts,
        server=f"{kind} {info.get(f'{kind}_version', 'of a version it does not tell')}",
        skew_seconds=skew,
        round_trip_seconds=took,
        appendonly=None if kept is None else bool(kept),
        fsync=config.get("appendfsync"),
        save=config.get("save"),
        write_status=info.get("aof_last_write_status") if kept else info.get("rdb_last_bgsave_status"),
        policy=info.get("maxmemory_policy"),
        maxmemory=_number(info.get("maxmemory")),
        used_memory=_number(info.get("used_memory")),
        evicted=_number(info.get("evicted_keys")),
        clients=_number(info.get("connected_clients")),
        maxclients=_number(info.get("maxclients") or config.get("maxclients")),
    )


def _skew(client: Any) -> tuple[float, float]:
    """How far its clock is ahead, and how long an answer took: of the quickest of some, which doubts least."""
    found = []
    for _ in range(_ROUNDS):
        began, clock = time.monotonic(), time.time()
        seconds, micros = client.time()
        took = time.monotonic() - began
        found.append((took, seconds + micros / 1e6 - (clock + took / 2)))
    took, skew = min(found)
    return skew, took


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


class _Told(msgspec.Struct, frozen=True):
    """What a process says of itself."""

    host: str = ""
    pid: int = 0
    version: str = ""
    dev: bool = False
    queues: tuple[str, ...] = ()


def _alive(desk: Desk) -> tuple[Roles, dict[str, int]]:
    """Who lives, and dead letters by function."""
    workers, schedulers, dead = desk.ask_sync(desk.ledger.call("alive", (), _lists))
    roles = Roles(
        workers=tuple(
            _process(name, info, functions=frozenset(one.decode() for one in functions))
            for name, info, functions in workers
        ),
        schedulers=tuple(_process(name, info, deployment=digest.decode()) for name, info, digest in schedulers),
    )
    return roles, {name.decode(): count for name, count in dead}


def _lists(found: Sequence[Any]) -> Sequence[Any]:
    return found


def _process(name: bytes, info: bytes, **said: Any) -> Process:
    told = msgspec.json.decode(info, type=_Told)
    return Process(name=name.decode(), **msgspec.structs.asdict(told), **said)
