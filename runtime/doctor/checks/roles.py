"""Judge what is alive: each role that should be here, versions, functions and schedules that differ. Pure."""

from collections.abc import Iterator

from runtime.doctor.checks.saying import Area, names
from runtime.doctor.facts import Facts, Finding, Process, Roles

_of = Area("roles")


def check_roles(facts: Facts) -> Iterator[Finding]:
    """All that can be said of them; nothing where there is no store that could tell."""
    roles, wanted = facts.roles, facts.settings.serve.only
    if roles is None:
        return
    if "http" in wanted:
        yield _http(facts, roles)
    if roles.workers:
        yield _of.ok("worker", names(one.name for one in roles.workers))
    elif "worker" in wanted:
        text = "no worker has given a sign of life in the last 30 s: what is queued waits"
        yield _of.bad("warning", "worker", text, "start one: fnrun serve, or fnrun serve --only worker; see its log")
    if roles.schedulers:
        yield _of.ok("scheduler", names(one.name for one in roles.schedulers))
    elif "scheduler" in wanted:
        text = "no scheduler has given a sign of life in the last 10 s: no tick is fired"
        yield _of.bad(
            "warning", "scheduler", text, "start one: fnrun serve, or fnrun serve --only scheduler; see its log"
        )
    yield from _differences(facts, roles)


def _http(facts: Facts, roles: Roles) -> Finding:
    bind = facts.settings.http.bind
    if not roles.http:
        return _of.ok("http", f"answers on {bind}")
    text = f"nothing that is well answers on {bind}: {roles.http}"
    return _of.bad("warning", "http", text, "start it: fnrun serve; or correct [http] bind; see its log")


def _differences(facts: Facts, roles: Roles) -> Iterator[Finding]:
    ours = facts.machine.fnrun
    others = [
        f"{one.name} ({one.version or 'older'})" for one in (*roles.workers, *roles.schedulers) if one.version != ours
    ]
    if roles.http_version and roles.http_version != ours:
        others.append(f"HTTP ({roles.http_version})")
    if others:
        text = f"this is fnrun {ours}, and there are {names(others)}"
        yield _of.bad("warning", "versions", text, "deploy the same version everywhere, and start what is left anew")
    elif roles.workers or roles.schedulers:
        yield _of.ok("versions", f"all are {ours}")
    yield from _functions(facts, roles.workers)
    deployments = {one.deployment for one in roles.schedulers}
    if len(deployments) > 1:
        text = f"schedulers with {len(deployments)} different sets of schedules live; the newest one's are fired"
        fix = "if no deployment is under way, end the old ones: " + names(one.name for one in roles.schedulers)
        yield _of.bad("warning", "deployments", text, fix)


def _functions(facts: Facts, workers: tuple[Process, ...]) -> Iterator[Finding]:
    if not workers:
        return
    known = facts.code.served_only.union(*(one.functions for one in workers))
    missing = [name for name in facts.code.functions if name not in known]
    if missing:
        text = f"no worker knows {names(missing)}"
        yield _of.bad("warning", "functions", text, "start workers anew with this code: runs of these would wait")
    else:
        yield _of.ok("functions", "the workers know all of this folder")
