"""Judge this machine: packages, limits, memory, disk, time zones. Pure."""

from collections.abc import Iterator

from runtime.doctor.checks.saying import Area, names, size
from runtime.doctor.facts import Facts, Finding, Level

_OTHER_FILES = 200
_LITTLE_MEMORY = 256_000_000
_LITTLE_DISK, _NO_DISK = 1_000_000_000, 100_000_000

_of = Area("machine")


def check_machine(facts: Facts) -> Iterator[Finding]:
    """All that can be said of it."""
    machine = facts.machine
    yield _of.ok("versions", f"fnrun {machine.fnrun}, Python {machine.python}")
    if machine.unmet:
        fix = "install what fnrun needs: pip install --upgrade fnrun, or from its requirements.lock"
        yield _of.bad("problem", "packages", f"not as required: {names(machine.unmet)}", fix)
    else:
        yield _of.ok("packages", "all as required")
    yield _open_files(facts)
    yield _memory(facts)
    yield _disk(facts)
    if facts.settings.traces.enabled and not machine.has_traces:
        text = "[traces] enabled, and what sends them is not installed: nothing starts"
        yield _of.bad("problem", "traces", text, "pip install 'fnrun[otel]', or switch traces off")
    if machine.missing_zones:
        text = f"unknown here: {names(machine.missing_zones)}"
        yield _of.bad("problem", "time zones", text, "correct the name, or pip install --upgrade tzdata")
    else:
        yield _of.ok("time zones", "all that are named are known")


def _open_files(facts: Facts) -> Finding:
    most, needed = facts.machine.nofile, facts.settings.http.max_connections + _OTHER_FILES
    if most < 0 or most >= needed:
        return _of.ok("open files", "enough for [http] max_connections")
    text = f"a process may have {most} files open, and [http] max_connections = {facts.settings.http.max_connections}"
    fix = f"raise the hard limit to {needed}: LimitNOFILE= of systemd, --ulimit nofile= of Docker; or lower the setting"
    return _of.bad("warning", "open files", text, fix)


def _memory(facts: Facts) -> Finding:
    machine, code = facts.machine, facts.code
    found = [limit for limit in (machine.memory, machine.memory_limit) if limit is not None]
    if not found:
        return _of.ok("memory", "not known")
    most = min(found)
    if most < _LITTLE_MEMORY:
        fix = f"give it {size(_LITTLE_MEMORY)} or more, or have machines of their own for roles: serve --only"
        return _of.bad("warning", "memory", f"{size(most)} is little for all roles", fix)
    isolated = max(code.memory.values(), default=0) * facts.settings.isolation.processes
    if isolated > most:
        text = f"isolated functions may take {size(isolated)}, and there is {size(most)}"
        fix = "lower memory= of these functions, or [isolation] processes: else the kernel ends processes as it likes"
        return _of.bad("warning", "memory", text, fix)
    return _of.ok("memory", size(most))


def _disk(facts: Facts) -> Finding:
    machine = facts.machine
    if not machine.state_writable:
        fix = "make it writable for this user, or mount a volume there"
        return _of.bad("problem", "disk", ".fnrun cannot be written", fix)
    if machine.disk_free is None:
        return _of.ok("disk", "not known")
    text = f"{size(machine.disk_free)} free where .fnrun is"
    if machine.disk_free >= _LITTLE_DISK:
        return _of.ok("disk", text)
    level: Level = "problem" if machine.disk_free < _NO_DISK else "warning"
    return _of.bad(level, "disk", text, "make room: an embedded store that cannot write accepts no runs")
