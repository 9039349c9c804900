"""Settings: defaults, then functions.toml, .env, .secrets and the environment, as frozen records.

Called once by roles and cli. Strict: an unknown name is an error with its path. Remembers where each value was read,
so that `fnrun config --why` can say it, and which are secrets, so that it does not say these.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from runtime.base.addresses import EMBEDDED, Address, mask
from runtime.base.durations import Seconds, Size
from runtime.base.errors import FnrunError, SettingsError, did_you_mean
from runtime.base.schedules import SCHEDULE_ID, ScheduleTable
from runtime.base.secrets.connections import ConnectionTable, url_of
from runtime.base.secrets.files import SECRETS_FILE
from runtime.base.secrets.given import NoSecret
from runtime.base.secrets.masking import Secret, hide
from runtime.base.secrets.opening import Opening, split
from runtime.base.secrets.vault import KEY_VARIABLES, OURS, Vault
from runtime.base.sections import FunctionSettings, QueueSettings, Settings, StoreSettings
from runtime.base.tables.alerts import AlertTable, faults_of, faults_of_all
from runtime.base.webhooks import secret_of

FILE_NAME = "functions.toml"
_MASKED = re.compile(r"key|secret|token|password|passwd|credential", re.IGNORECASE)

NOTHING: Mapping[str, str] = MappingProxyType({})
_S = TypeVar("_S", bound=msgspec.Struct)
_NAMED: Mapping[str, type[msgspec.Struct]] = {
    "functions": FunctionSettings,
    "schedules": ScheduleTable,
    "connections": ConnectionTable,
    "alerts": AlertTable,
}
"""Tables whose keys are names, and what stands below each."""
SECTIONS = tuple(name for name in Settings.__struct_fields__ if name not in _NAMED)
_PARTS = ("host", "port", "user", "password", "db", "tls")
"""Of the store's address."""


class Sourced(msgspec.Struct, frozen=True):
    """One value as `fnrun config` prints it. path: "http.bind". source: "default", the file, or the variable."""

    path: str
    value: str
    source: str


class Loaded(msgspec.Struct, frozen=True):
    """Settings and where each came from. sources: dotted path -> what set it; absent means default.

    hidden: paths whose values are secrets, whatever their type. vault: the secrets that functions may name.
    """

    settings: Settings
    sources: dict[str, str]
    vault: Vault
    hidden: frozenset[str] = frozenset()

    @property
    def warnings(self) -> list[str]:
        """What is not as it should be, and stops nothing."""
        return self.vault.warnings

    def explain(self) -> Iterator[Sourced]:
        """Every setting in order, secrets masked."""
        for path, value in _leaves("", self.settings):
            named = re.search(r"\.(env|payload|options)\.", path) and _MASKED.search(path.rpartition(".")[2])
            shown = mask(value) if path == "store.url" else value
            secret = named or (path in self.hidden and path != "store.url") or _is_secret(value)
            yield Sourced(path, "********" if secret else _shown(shown), self.sources.get(path, "default"))


def load_settings(
    root: Path,
    overrides: Mapping[str, str] = NOTHING,
    environ: Mapping[str, str] = os.environ,
    *,
    sealed: bool = False,
) -> Loaded:
    """The settings of the project in `root`.

    overrides: what the command line says, by path with "__" for ".": {"http__bind": "0.0.0.0:80"}. sealed: for a
    process that has no business with secrets; settings that are such have their defaults.
    Raises SettingsError that names the path, the fault and where it was read.
    """
    sources: dict[str, str] = {}
    tree = _read_file(root / FILE_NAME)
    _mark(sources, "", tree, FILE_NAME)
    _check_names(tree, FILE_NAME)
    vault = Vault(root, environ, sealed=sealed)
    _check_variables(environ)
    layers = [(name.removeprefix(OURS).lower(), text, place) for name, text, place in vault.settings()]
    layers += [(name, text, "command line") for name, text in overrides.items()]
    for dotted, text, source in layers:
        section, _, key = dotted.partition("__")
        _check_names({section: {key: text}}, source)
        if section in _NAMED:
            raise SettingsError(f'{source}: {section} are written in {FILE_NAME}, under [{section}."name"]')
        tree.setdefault(section, {})[key] = split(text) if _is_list(section, key) else text
        sources[f"{section}.{key}"] = source
    opening = Opening(root / FILE_NAME, vault, sources)
    tree = opening.open("", tree)
    # One by one: msgspec's own path does not say which function.
    named = {
        section: {name: _convert(table, kind, f'{section}."{name}"', sources) for name, table in tables.items()}
        for section, kind in _NAMED.items()
        for tables in [tree.pop(section, {})]
    }
    settings = msgspec.structs.replace(_convert(tree, Settings, "", sources), **named)
    settings = msgspec.structs.replace(settings, store=_whole(settings.store, sources, sealed=sealed))
    _check_store(settings.store, sources)
    _check_queue(settings.queue, sources)
    if not sealed:
        _check_signing("callbacks.secrets", settings.callbacks.secrets, sources)
        _check_signing("signing.secrets", settings.signing.secrets, sources)
        for name, one in settings.functions.items():
            _check_signing(f'functions."{name}".signing', one.signing, sources)
    _check_schedules(settings.schedules)
    _check_alerts(settings, sources)
    vault.connections = {
        name: partial(_url_of, name, table, vault) for name, table in settings.connections.items() if not sealed
    }
    for _, value in _leaves("", settings):
        if _is_secret(value):
            hide([value] if isinstance(value, str) else value)
    hide([Address.parse(settings.store.url).password] if settings.store.url != EMBEDDED else [])
    secret = (path for path, source in sources.items() if source.startswith(f"{SECRETS_FILE}:"))
    return Loaded(settings, sources, vault, frozenset([*opening.hidden, *secret]))


def _is_secret(value: Any) -> bool:
    one = value[0] if isinstance(value, tuple) and value else value
    return isinstance(one, Secret) and bool(one)


def _url_of(name: str, table: ConnectionTable, vault: Vault) -> str:
    if table.password and table.password_from:
        raise SettingsError(
            f'{FILE_NAME}: connections."{name}": password and password_from are both there; take one away'
        )
    if not table.password_from:
        return table.url(table.password)
    place = f'{FILE_NAME}: connections."{name}".password_from'
    if table.password_from in vault.connections:  # perhaps this very one, without end
        raise SettingsError(f'{place}: "{table.password_from}" is a connection, and no password; name a secret')
    try:
        return table.url(vault.get(table.password_from))
    except NoSecret as error:
        raise NoSecret(f"{place}: {error}") from None


def _whole(store: StoreSettings, sources: dict[str, str], *, sealed: bool) -> StoreSettings:
    """The store with its address in one, if it is said in parts."""
    parts = [part for part in _PARTS if f"store.{part}" in sources]
    if not parts or (sealed and "store.url" in sources):
        return store
    source, path = sources[f"store.{parts[0]}"], f"store.{parts[0]}"
    if "store.url" in sources:
        raise SettingsError(f"{source}: {path}: stands beside store.url of {sources['store.url']}; take one away")
    if not store.host:
        raise SettingsError(f"{source}: {path}: there is no store.host that it belongs to; write it, too")
    access = (store.user, str(store.password))
    sources["store.url"] = sources["store.host"]
    url = url_of("rediss" if store.tls else "redis", store.host, store.port, access, str(store.db))
    return msgspec.structs.replace(store, url=url)


def _check_signing(path: str, secrets: Iterable[str], sources: Mapping[str, str]) -> None:
    for number, one in enumerate(secrets, 1):
        try:
            secret_of(one)
        except FnrunError as error:
            raise SettingsError(f"{sources.get(path, FILE_NAME)}: {path}: number {number}: {error}") from None


def _check_schedules(ids: Iterable[str]) -> None:
    for one in ids:
        if not SCHEDULE_ID.fullmatch(one):
            raise SettingsError(
                f'{FILE_NAME}: schedules."{one}": an id is 1 to 100 letters, digits and any of _ . : -; choose another'
            )


def _check_alerts(settings: Settings, sources: Mapping[str, str]) -> None:
    for name, table in settings.alerts.items():
        for field, fault in faults_of(name, table):
            raise SettingsError(f'{FILE_NAME}: alerts."{name}"{f".{field}" if field else ""}: {fault}')
    for field, fault in faults_of_all(settings.alerting):
        raise SettingsError(f"{sources[f'alerting.{field}']}: alerting.{field}: {fault}")


def _convert(tree: Any, kind: type[_S], prefix: str, sources: Mapping[str, str]) -> _S:
    try:
        return msgspec.convert(tree, kind, strict=False, dec_hook=_parse)
    except msgspec.ValidationError as error:
        detail, _, where = str(error).partition(" - at `$")
        path = (prefix + where.removesuffix("`")).removeprefix(".")
        source = sources.get(path.partition("[")[0], FILE_NAME)  # a list has one source for all in it
        words = _words_at(kind, where.removesuffix("`")) if detail.startswith("Invalid enum value") else ()
        raise SettingsError(
            f"{source}: {path}: {detail}" + (f"; there are: {', '.join(words)}" if words else "")
        ) from None


def _words_at(kind: Any, path: str) -> Sequence[str]:
    """The words of which one may stand at a path, ".log.level" for instance."""
    for name in path.split(".")[1:]:
        kind = get_type_hints(kind)[name.partition("[")[0]]
    return [word for part in (kind, *get_args(kind)) if get_origin(part) is Literal for word in get_args(part)]


def _check_store(store: StoreSettings, sources: Mapping[str, str]) -> None:
    try:
        if store.url != EMBEDDED:
            Address.parse(store.url)
    except ValueError as error:
        raise SettingsError(f"{sources['store.url']}: store.url: {error}") from None


def _check_queue(queue: QueueSettings, sources: Mapping[str, str]) -> None:
    if queue.beat >= queue.lease / 2:
        source = sources.get("queue.beat") or sources["queue.lease"]
        raise SettingsError(
            f"{source}: queue.beat: {queue.beat} is not less than half of queue.lease ({queue.lease}); "
            "a worker that misses one beat would lose its runs"
        )


def is_secret_variable(name: str) -> bool:
    """Whether a variable of ours is a key, or a setting whose type is Secret."""
    section, _, key = name.removeprefix(OURS).lower().partition("__")
    if name in KEY_VARIABLES or section not in SECTIONS:
        return name in KEY_VARIABLES
    kind = get_type_hints(type(getattr(Settings(), section))).get(key)
    return kind is Secret or Secret in get_args(kind)


def _is_list(section: str, key: str) -> bool:
    return get_origin(get_type_hints(type(getattr(Settings(), section)))[key]) is tuple


def _check_variables(environ: Mapping[str, str]) -> None:
    """Refuse FNRUN_HTTP_AUTH, which wants to be FNRUN_HTTP__AUTH and would be passed over in silence."""
    for section in SECTIONS:
        for key in getattr(Settings(), section).__struct_fields__:
            name = f"{OURS}{section}_{key}".upper()
            if name in environ:
                raise SettingsError(f"{name}: a setting has two underscores, {OURS}{section.upper()}__{key.upper()}")


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))  # some editors begin a file with a BOM
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name} is not valid TOML: {error}") from None
    except OSError as error:
        raise SettingsError(f"{path.name} cannot be read: {error.strerror}") from None


def _check_names(tree: Mapping[str, Any], source: str) -> None:
    """Refuse names nobody reads. One pass over the two levels there are, functions by their own record."""
    for section, table in tree.items():
        if section not in Settings.__struct_fields__:
            raise _unknown(source, section, section, Settings.__struct_fields__)
        if not isinstance(table, Mapping):
            raise SettingsError(f"{source}: {section}: a table is expected here, write [{section}]")
        kind = _NAMED.get(section) or type(getattr(Settings(), section))
        tables = table if section in _NAMED else {section: table}
        for name, keys in tables.items():
            path = f'{section}."{name}"' if section in _NAMED else section
            for key in keys if isinstance(keys, Mapping) else ():
                if key not in kind.__struct_encode_fields__:
                    raise _unknown(source, f"{path}.{key}", key, kind.__struct_encode_fields__)


def _unknown(source: str, path: str, name: str, known: tuple[str, ...]) -> SettingsError:
    hint = did_you_mean(name, known) or f"; there are: {', '.join(known)}"
    return SettingsError(f'{source}: unknown setting "{path}"{hint}')


def _parse(kind: Any, value: Any) -> Any:
    return kind.parse(value)  # Seconds, Size, Role and Secret, the only types of our own in the records above


def _mark(sources: dict[str, str], prefix: str, tree: Mapping[str, Any], source: str) -> None:
    for key, value in tree.items():
        path = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            _mark(sources, path, value, source)
        else:
            sources[path] = source


def _leaves(prefix: str, node: Any) -> Iterator[tuple[str, Any]]:
    items = (
        zip(node.__struct_encode_fields__, msgspec.structs.astuple(node), strict=True)
        if isinstance(node, msgspec.Struct)
        else node.items()
    )
    for key, value in items:
        path = f"{prefix}.{key}" if prefix else key
        if isinstance(value, msgspec.Struct | dict):
            yield from _leaves(path, value)
        elif value is not None:
            yield path, value


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Seconds | Size) else msgspec.json.encode(value, enc_hook=str).decode()
