"""What is known of an installation: facts alone, no judgement. None: it could not be found out.

Made by gather; judged by checks.
"""

from typing import Literal

import msgspec

from runtime.base.sections import Settings
from runtime.ledger.views import QueueView

Level = Literal["ok", "warning", "problem"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a check says. area: "store", ... about: what was looked at. fix: what to do; "" if all is well."""

    area: str
    about: str
    level: Level = "ok"
    text: str
    fix: str = ""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """This machine, as the project's processes see it. Sizes in bytes.

    unmet: requirements that what is installed does not meet. memory_limit: of the control group. nofile: the hard limit
    of open files, which processes of ours raise their own to; -1 for none. disk_free: where .fnrun is, or will be.
    missing_zones: of those that the project names. modes: of files that not everybody should read, or write, by paths.
    has_traces: the extra otel is installed.
    """

    fnrun: str
    python: str
    unmet: tuple[str, ...] = ()
    memory: int | None = None
    memory_limit: int | None = None
    nofile: int = -1
    disk_free: int | None = None
    disk_total: int | None = None
    state_writable: bool = True
    missing_zones: tuple[str, ...] = ()
    modes: dict[str, int] = {}
    has_traces: bool = True


class StoreFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The store. error: why it cannot be relied on, and then the rest is not known.

    skew_seconds: how far its clock is ahead of this machine's; round_trip_seconds: how long its answer took, which
    bounds the fault of that. save: when snapshots are made, "" for never. write_status: of its file, "ok" or not.
    loopback: only this machine can reach it.
    """

    where: str
    error: str = ""
    embedded: bool = False
    loopback: bool = True
    tls: bool = False
    password: bool = False
    server: str = ""
    skew_seconds: float = 0.0
    round_trip_seconds: float = 0.0
    appendonly: bool | None = None
    fsync: str | None = None
    save: str | None = None
    write_status: str | None = None
    policy: str | None = None
    maxmemory: int | None = None
    used_memory: int | None = None
    evicted: int | None = None
    clients: int | None = None
    maxclients: int | None = None


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A worker or a scheduler that lives. version: of fnrun; "" for one that does not say. dev: of `fnrun dev`.

    functions, queues: of a worker; "*" for all queues. deployment: of a scheduler, the digest of its schedules.
    """

    name: str
    host: str = ""
    pid: int = 0
    version: str = ""
    dev: bool = False
    queues: tuple[str, ...] = ()
    functions: frozenset[str] = frozenset()
    deployment: str = ""


class Roles(msgspec.Struct, frozen=True, kw_only=True):
    """What is seen alive. http: "" if what [http] bind names answers, else why not. http_version: of fnrun there."""

    http: str = ""
    http_version: str = ""
    workers: tuple[Process, ...] = ()
    schedulers: tuple[Process, ...] = ()


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What waits. dead: dead letters by function."""

    queues: tuple[QueueView, ...] = ()
    dead: dict[str, int] = {}


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """The project's functions, by name. failures: what does not load. served: _lifespan.py loads.

    served_only: those that no worker can run, for they want a request or files. public: callable by HTTP without a key.
    memory: what isolated ones may take, in bytes. alerts: what is wrong with the functions that alerts would have run.
    """

    functions: tuple[str, ...] = ()
    served_only: frozenset[str] = frozenset()
    failures: tuple[str, ...] = ()
    served: bool = True
    public: tuple[str, ...] = ()
    memory: dict[str, int] = {}
    alerts: tuple[str, ...] = ()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. roles, work: None where the store does not answer."""

    settings: Settings
    machine: Machine
    store: StoreFacts
    code: Code
    roles: Roles | None = None
    work: Work | None = None
