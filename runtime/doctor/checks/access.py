"""Judge who can reach what: addresses, TLS, public functions, files that others may read or write. Pure."""

import ipaddress
import stat
from collections.abc import Iterator

from runtime.doctor.checks.saying import Area, names
from runtime.doctor.facts import Facts, Finding, Level

_SECRETS = {".secrets": "problem", ".env": "warning", ".fnrun/keys.json": "warning"}
"""Files that not everybody may read, and how bad it is where they can: keys are hashed, .env should hold no secret."""

_of = Area("access")


def check_access(facts: Facts) -> Iterator[Finding]:
    """All that can be said of it."""
    http = facts.settings.http
    if "http" in facts.settings.serve.only:
        if is_loopback(http.bind):
            yield _of.ok("address", f"{http.bind}: of this machine alone")
        else:
            yield _of.ok("address", f"{http.bind}: reached by others")
            yield _tls(facts)
            yield _public(facts)
    if facts.settings.ops.bind and not is_loopback(facts.settings.ops.bind):
        yield _ops(facts.settings.ops.bind)
    yield _dev(facts)
    found = [finding for path, mode in facts.machine.modes.items() if (finding := _mode(path, mode)) is not None]
    yield from found or [_of.ok("files", "nobody else reads secrets, or writes")]


def is_loopback(bind: str) -> bool:
    """Whether only this machine reaches "host:port". No name but localhost is looked up."""
    host = bind.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(facts: Facts) -> Finding:
    http = facts.settings.http
    if http.certfile:
        return _of.ok("TLS", "what is sent is encrypted")
    fix = "set [http] certfile and keyfile; or let only a proxy with TLS reach this address, and ignore this"
    return _of.bad("warning", "TLS", f"{http.bind} speaks no TLS, so access keys are sent in the clear", fix)


def _public(facts: Facts) -> Finding:
    if not facts.code.public:
        return _of.ok("public functions", "none")
    text = f"whoever reaches {facts.settings.http.bind} may call {names(facts.code.public)}"
    return _of.bad("warning", "public functions", text, 'if that is not meant: auth = "key" on their triggers')


def _ops(bind: str) -> Finding:
    text = f"whoever reaches {bind} reads metrics, names of functions among them, without a key"
    fix = "have [ops] bind at an address that only your own monitoring reaches, and ignore this if it is"
    return _of.bad("warning", "[ops] bind", text, fix)


def _dev(facts: Facts) -> Finding:
    workers = facts.roles.workers if facts.roles is not None else ()
    dev = [one.name for one in workers if one.dev]
    if not dev or facts.store.embedded:
        return _of.ok("dev", "no `fnrun dev` is at work on a store of others")
    text = f"`fnrun dev` takes runs from {facts.store.where}: {names(dev)}"
    return _of.bad("warning", "dev", text, "use `fnrun serve` there, and a store or a namespace of its own for dev")


def _mode(path: str, mode: int) -> Finding | None:
    """What others may do with a file that they should not; None for nothing."""
    said = f"others may {{}} {path} (mode {mode:o})"
    if mode & stat.S_IWOTH:
        return _of.bad("problem", path, said.format("write"), f"chmod o-w {path}: what is in it is run, or believed")
    if path not in _SECRETS or not mode & (stat.S_IRGRP | stat.S_IROTH):
        return None
    level: Level = "problem" if _SECRETS[path] == "problem" and mode & stat.S_IROTH else "warning"
    return _of.bad(level, path, said.format("read"), f"chmod 600 {path}")
