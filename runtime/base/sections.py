"""The tables of functions.toml as frozen records, and what each says unless told otherwise.

Data alone; settings reads it, and all others go by it. [schedule] and [schedules.ID] are in schedules.
"""

from typing import Annotated, Literal, Self

import msgspec
from typing_extensions import override

from runtime.base.addresses import EMBEDDED, mask
from runtime.base.durations import Seconds, SecondsOrNever, Size
from runtime.base.errors import did_you_mean
from runtime.base.logs import Format, Level
from runtime.base.schedules import ScheduleSettings, ScheduleTable
from runtime.base.secrets.connections import ConnectionTable
from runtime.base.secrets.masking import Secret
from runtime.base.tables.alerts import AlertingSettings, AlertTable

Auth = Literal["public", "key", "signed"]
_Count = Annotated[int, msgspec.Meta(ge=1)]
_Name = Annotated[str, msgspec.Meta(pattern=r"^\S+$")]
_Namespace = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
_Variable = Annotated[str, msgspec.Meta(pattern=r"^[^=\s]+$")]
_Origin = Annotated[str, msgspec.Meta(pattern=r"^(\*|https?://[^/\s]+)$")]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of functions.toml."""


_ROLES = ("http", "scheduler", "worker")


class Role(str):
    """What a process of ours does: "http" serves requests, "scheduler" fires ticks, "worker" executes queued runs."""

    __slots__ = ()

    @classmethod
    def parse(cls, name: str) -> Self:
        """The role of that name; ValueError if there is none."""
        if name not in _ROLES:
            hint = did_you_mean(str(name), _ROLES) or f"; there are: {', '.join(_ROLES)}"
            raise ValueError(f'there is no role "{name}"{hint}')
        return cls(name)


class HttpSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[http]: where HTTP listens and what holds for every route that does not say otherwise."""

    bind: str = "127.0.0.1:8000"
    auth: Auth = "key"
    max_body: Size = Size(1_000_000)
    timeout: Seconds = Seconds(30)
    workers: _Count = 1
    certfile: str = ""
    keyfile: str = ""
    http2: bool = True
    http3: bool = False
    max_connections: _Count = 10_000
    max_in_flight: Annotated[int, msgspec.Meta(ge=0)] = 0
    shed: bool = True
    max_headers: Size = Size(16_000)
    keep_alive: Seconds = Seconds(75)
    limit_wait: Seconds = Seconds(10)
    lane: Literal["fast", "hypercorn"] = "fast"


class OpsSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[ops]: where health, ready and metrics are served apart from all else, to whoever comes; "" for nowhere."""

    bind: str = ""


class SigningSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[signing]: what signed calls are signed with, where a function has no secrets of its own."""

    secrets: tuple[Secret, ...] = ()


class CorsSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[cors]: which web pages of other origins may call, and what they may send and see; none if origins is empty."""

    origins: tuple[_Origin, ...] = ()
    methods: tuple[str, ...] = ("*",)
    headers: tuple[str, ...] = ("*",)
    expose: tuple[str, ...] = (
        "X-Run-Id", "Retry-After", "Location", "Preference-Applied", "Idempotency-Replayed",
        "Fnrun-Fallback", "Fnrun-Breaker",
    )  # fmt: skip
    credentials: bool = False
    max_age: Seconds = Seconds(600)


class ServeSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[serve]: the roles, their threads for sync handlers, the end after SIGTERM, and loops that a handler holds."""

    only: Annotated[tuple[Role, ...], msgspec.Meta(min_length=1)] = tuple(Role(name) for name in _ROLES)
    threads: _Count = 40
    drain: Seconds = Seconds(25)
    blocked_warn: Seconds = Seconds(1)
    blocked_limit: SecondsOrNever = SecondsOrNever(10)


class StoreSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[store]: the Redis or Valkey that runs are kept in, and what each of its keys begins with.

    Its address in one, or in parts; the settings make the one of the others.
    """

    url: str = EMBEDDED
    namespace: _Namespace = "fnrun"
    host: str = ""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 6379
    user: str = ""
    password: Secret = Secret()
    db: Annotated[int, msgspec.Meta(ge=0)] = 0
    tls: bool = False

    @override
    def __repr__(self) -> str:
        return f"StoreSettings(url={mask(self.url)!r}, namespace={self.namespace!r})"


class QueueSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[queue]: the workers, how soon a dead one's runs start again, and how long finished runs are kept."""

    workers: _Count = 1
    concurrency: _Count = 100
    queues: Annotated[tuple[_Name, ...], msgspec.Meta(min_length=1)] = ("*",)
    max_length: _Count = 1_000_000
    lease: Seconds = Seconds(10)
    beat: Seconds = Seconds(2)
    payload_max: Size = Size(1_000_000)
    result_max: Size = Size(1_000_000)
    keep: Seconds = Seconds(7 * 86_400)
    keep_failures: Seconds = Seconds(30 * 86_400)
    keep_count: _Count = 10_000
    celery_prefix: str = ""


class BackgroundSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[background], of each process for itself.

    queue: how many tasks may wait. concurrency, threads, processes: how many run at once, of async ones, of sync ones,
    of in_process. keep, keep_count: for how long, and how many, that have ended are known.
    """

    queue: _Count = 1000
    concurrency: _Count = 100
    threads: _Count = 20
    processes: _Count = 2
    keep: Seconds = Seconds(600)
    keep_count: _Count = 1000


class IsolationSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[isolation]: how many processes each of ours may have for such functions, how long they last, what they see."""

    processes: _Count = 8
    max_calls: _Count = 100
    idle: Seconds = Seconds(60)
    env: tuple[_Variable, ...] = ()


class LogSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[log]: how lines look, from which level, which requests and runs get one, and where they are kept.

    levels: of loggers, by their names. file: beside stdout, rotated by size and time. run_lines, run_bytes: kept a run.
    """

    format: Format = "auto"
    level: Level = "info"
    levels: dict[str, Level] = {}
    requests: Literal["problems", "all"] = "problems"
    file: str = ""
    rotate_size: Size = Size(50_000_000)
    rotate_every: Seconds = Seconds(86_400)
    keep: Seconds = Seconds(14 * 86_400)
    keep_files: _Count = 30
    run_lines: Annotated[int, msgspec.Meta(ge=0)] = 1000
    run_bytes: Size = Size(256_000)


class CallbackSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[callbacks]: where it may be told that runs have ended, how that is signed, and for how long it is tried.

    allow: patterns of hosts, "*.example.com"; all if empty.
    """

    secrets: tuple[Secret, ...] = ()
    allow: tuple[_Name, ...] = ()
    allow_private: bool = False
    timeout: Seconds = Seconds(10)
    attempts: _Count = 14
    retry_first: Seconds = Seconds(5)
    retry_longest: Seconds = Seconds(4 * 3600)


class TracesSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[traces]: whether spans are sent by OpenTelemetry, whose own variables OTEL_* say where to, and how many."""

    enabled: bool = False


class FunctionSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[functions."name"]: what overrides the code; None leaves what the code says."""

    enabled: bool = True
    timeout: Seconds | None = None
    auth: Auth | None = None
    schedule: str | None = None
    queue: str | None = None
    concurrency: _Count | None = None
    rate: str | None = None
    env: dict[str, str] = {}
    secrets: tuple[_Variable, ...] = ()
    signing: tuple[Secret, ...] = ()


class Settings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    http: HttpSettings = HttpSettings()
    ops: OpsSettings = OpsSettings()
    cors: CorsSettings = CorsSettings()
    serve: ServeSettings = ServeSettings()
    store: StoreSettings = StoreSettings()
    queue: QueueSettings = QueueSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    background: BackgroundSettings = BackgroundSettings()
    log: LogSettings = LogSettings()
    isolation: IsolationSettings = IsolationSettings()
    callbacks: CallbackSettings = CallbackSettings()
    traces: TracesSettings = TracesSettings()
    signing: SigningSettings = SigningSettings()
    alerting: AlertingSettings = AlertingSettings()
    functions: dict[str, FunctionSettings] = {}
    schedules: dict[str, ScheduleTable] = {}
    connections: dict[_Variable, ConnectionTable] = {}
    alerts: dict[str, AlertTable] = {}
