"""What the doctor says of facts: each fault is named with its fix, and what is well is said to be."""

from typing import Any

import msgspec
import pytest

from runtime.base.sections import HttpSettings, IsolationSettings, OpsSettings, ServeSettings, Settings, TracesSettings
from runtime.doctor.checks import examine
from runtime.doctor.facts import Code, Facts, Finding, Machine, Process, Roles, StoreFacts, Work
from runtime.ledger.views import QueueView

GB = 1_000_000_000
MACHINE = Machine(
    fnrun="0.1.0", python="3.11.2", memory=8 * GB, nofile=1_048_576, disk_free=50 * GB, disk_total=100 * GB,
    modes={".secrets": 0o600},
)  # fmt: skip
STORE = StoreFacts(
    where="redis://10.0.0.5:6379/0", loopback=False, tls=True, password=True, server="valkey 9.0.1",
    round_trip_seconds=0.001, appendonly=True, fsync="everysec", save="", write_status="ok", policy="noeviction",
    maxmemory=GB, used_memory=GB // 10, evicted=0, clients=10, maxclients=10_000,
)  # fmt: skip
WORKER = Process(name="w1@a", version="0.1.0", queues=("*",), functions=frozenset({"sum"}))
SCHEDULER = Process(name="s1@a", version="0.1.0", deployment="d1")
QUEUE = QueueView(
    name="default", ready=0, later=0, running=0, unknown=0, limited=0, paused=False, age_seconds=0.0
)  # fmt: skip
FACTS = Facts(
    settings=Settings(),
    machine=MACHINE,
    store=STORE,
    code=Code(functions=("sum",)),
    roles=Roles(http_version="0.1.0", workers=(WORKER,), schedulers=(SCHEDULER,)),
    work=Work(queues=(QUEUE,)),
)


def found(**changes: Any) -> dict[str, Finding]:
    """What is not well, by what it is about, with these facts changed."""
    changed = {
        name: msgspec.structs.replace(getattr(FACTS, name), **change) if isinstance(change, dict) else change
        for name, change in changes.items()
    }
    findings = examine(msgspec.structs.replace(FACTS, **changed))
    return {f"{one.area}: {one.about}": one for one in findings if one.level != "ok"}


def settings(**sections: Any) -> Settings:
    return msgspec.structs.replace(Settings(), **sections)


def test_nothing_is_said_against_a_system_that_is_well():
    assert found() == {}
    assert len(examine(FACTS)) > 15


def test_what_is_not_well_says_what_to_do():
    every = [
        *examine(FACTS),
        *found(store={"error": "cannot be reached"}).values(),
        *found(machine={"nofile": 100, "disk_free": 10, "modes": {".env": 0o644}}).values(),
    ]
    assert all(bool(one.fix) == (one.level != "ok") and one.text for one in every)


STORE_FAULTS = [
    ({"error": "cannot be reached"}, "reached", "problem", "cannot be reached"),
    ({"skew_seconds": 1.5}, "clock", "warning", "1.5 s ahead"),
    ({"skew_seconds": -30.0}, "clock", "problem", "30.0 s behind"),
    ({"appendonly": False}, "persistence", "problem", "lost with the server"),
    ({"appendonly": False, "save": "60 1"}, "persistence", "problem", "snapshots alone"),
    ({"fsync": "no"}, "persistence", "warning", "when the system"),
    ({"appendonly": None}, "persistence", "warning", "could not be asked"),
    ({"write_status": "err"}, "persistence", "problem", "cannot write"),
    ({"policy": "allkeys-lru"}, "eviction", "problem", "allkeys-lru"),
    ({"policy": None}, "eviction", "warning", "could not be asked"),
    ({"evicted": 3}, "eviction", "problem", "3 keys"),
    ({"used_memory": 850_000_000}, "memory", "warning", "85 %"),
    ({"used_memory": 990_000_000}, "memory", "problem", "99 %"),
    ({"clients": 9_500}, "connections", "warning", "9500 of 10000"),
    ({"round_trip_seconds": 0.2}, "latency", "warning", "200 ms"),
    ({"password": False}, "access", "problem", "no password"),
    ({"tls": False}, "access", "warning", "without TLS"),
]


@pytest.mark.parametrize(("facts", "about", "level", "said"), STORE_FAULTS, ids=str)
def test_a_fault_of_the_store_is_named(facts, about, level, said):
    (one,) = found(store=facts).values()
    assert (one.area, one.about, one.level) == ("store", about, level)
    assert said in one.text


def test_a_clock_is_not_blamed_for_what_the_network_takes():
    assert "store: clock" not in found(store={"skew_seconds": 1.5, "round_trip_seconds": 1.2})


def test_a_store_of_this_machine_needs_neither_password_nor_tls():
    assert found(store={"loopback": True, "password": False, "tls": False}) == {}


def test_the_embedded_store_is_synced_by_its_keeper():
    assert found(store={"embedded": True, "loopback": True, "password": False, "tls": False, "fsync": "no"}) == {}


def test_a_store_without_a_limit_is_well():
    assert found(store={"maxmemory": 0}) == {}


def test_where_the_store_is_away_no_more_is_said_of_what_is_in_it():
    assert list(found(store={"error": "x"}, roles=None, work=None)) == ["store: reached"]


ROLE_FAULTS = [
    ({"http": "refused"}, "http", "warning", "refused"),
    ({"workers": ()}, "worker", "warning", "no worker"),
    ({"schedulers": ()}, "scheduler", "warning", "no scheduler"),
]


@pytest.mark.parametrize(("facts", "about", "level", "said"), ROLE_FAULTS, ids=str)
def test_a_role_that_is_missing_is_named(facts, about, level, said):
    (one,) = found(roles=facts).values()
    assert (one.area, one.about, one.level) == ("roles", about, level)
    assert said in one.text


def test_a_role_that_is_not_meant_to_be_here_is_not_missed_if_nothing_waits_for_it():
    said = settings(serve=ServeSettings(only=("http",)))  # type: ignore[arg-type]
    assert found(settings=said, roles={"workers": (), "schedulers": ()}) == {}


def test_processes_of_other_versions_are_named():
    old = msgspec.structs.replace(WORKER, name="w2@b", version="0.0.9")
    (one,) = found(roles={"workers": (WORKER, old)}).values()
    assert (one.about, one.level) == ("versions", "warning")
    assert "w2@b (0.0.9)" in one.text
    assert "w1@a" not in one.text


def test_a_process_that_does_not_say_its_version_is_older():
    assert "roles: versions" in found(roles={"schedulers": (msgspec.structs.replace(SCHEDULER, version=""),)})


def test_a_worker_that_knows_other_functions_is_named():
    (one,) = found(code={"functions": ("sum", "orders.create")}).values()
    assert (one.about, one.level) == ("functions", "warning")
    assert "orders.create" in one.text


def test_a_function_that_no_worker_can_run_is_not_missed():
    assert not found(code={"functions": ("sum", "upload"), "served_only": frozenset({"upload"})})


def test_schedulers_of_two_deployments_are_named():
    other = msgspec.structs.replace(SCHEDULER, name="s2@b", deployment="d2")
    (one,) = found(roles={"schedulers": (SCHEDULER, other)}).values()
    assert (one.about, one.level) == ("deployments", "warning")


def test_a_dev_process_on_a_shared_store_is_a_warning():
    (one,) = found(roles={"workers": (msgspec.structs.replace(WORKER, dev=True),)}).values()
    assert (one.area, one.about, one.level) == ("access", "dev", "warning")


def test_dev_on_its_embedded_store_is_what_it_is_for():
    assert found(store={"embedded": True}, roles={"workers": (msgspec.structs.replace(WORKER, dev=True),)}) == {}


MACHINE_FAULTS = [
    ({"unmet": ("msgspec>=0.22: 0.18 is installed",)}, "packages", "problem", "msgspec>=0.22"),
    ({"nofile": 4096}, "open files", "warning", "4096"),
    ({"memory_limit": 200_000_000}, "memory", "warning", "200 MB"),
    ({"disk_free": 50_000_000}, "disk", "problem", "50 MB"),
    ({"disk_free": 800_000_000}, "disk", "warning", "800 MB"),
    ({"state_writable": False}, "disk", "problem", "cannot be written"),
    ({"missing_zones": ("Mars/Olympus",)}, "time zones", "problem", "Mars/Olympus"),
]


@pytest.mark.parametrize(("facts", "about", "level", "said"), MACHINE_FAULTS, ids=str)
def test_a_fault_of_the_machine_is_named(facts, about, level, said):
    (one,) = found(machine=facts).values()
    assert (one.area, one.about, one.level) == ("machine", about, level)
    assert said in one.text


def test_traces_that_cannot_be_sent_are_a_problem():
    assert found(machine={"has_traces": False}) == {}
    (one,) = found(settings=settings(traces=TracesSettings(enabled=True)), machine={"has_traces": False}).values()
    assert (one.about, one.level) == ("traces", "problem")


def test_isolated_functions_may_not_take_more_than_there_is():
    said = settings(isolation=IsolationSettings(processes=8))
    (one,) = found(settings=said, code={"memory": {"sum": 2 * GB}}).values()
    assert (one.about, one.level) == ("memory", "warning")
    assert "16 GB" in one.text


def http(**said: Any) -> dict[str, Finding]:
    public = said.pop("public", ())
    return found(settings=settings(http=HttpSettings(**said)), code={"public": public})


def test_keys_in_the_clear_are_a_warning():
    one = http(bind="0.0.0.0:8000")["access: TLS"]
    assert one.level == "warning"
    assert http(bind="0.0.0.0:8000", certfile="a", keyfile="b") == {}


@pytest.mark.parametrize(("bind", "level"), [("0.0.0.0:9000", "warning"), ("127.0.0.1:9000", None), ("", None)])
def test_metrics_that_others_read_without_a_key_are_a_warning(bind, level):
    one = found(settings=settings(ops=OpsSettings(bind=bind))).get("access: [ops] bind")
    assert (one and one.level) == level


@pytest.mark.parametrize("bind", [":8000", "[::]:8000", "10.1.2.3:80", "example.com:80"])
def test_an_address_that_others_reach_is_known_as_one(bind):
    assert "access: TLS" in http(bind=bind)


@pytest.mark.parametrize("bind", ["127.0.0.1:8000", "[::1]:8000", "localhost:8000", "127.5.0.1:80"])
def test_an_address_of_this_machine_alone_is_known_as_one(bind):
    assert http(bind=bind, public=("sum",)) == {}


def test_public_functions_are_named_where_others_reach_them():
    one = http(bind="0.0.0.0:8000", certfile="a", keyfile="b", public=("sum",))["access: public functions"]
    assert one.level == "warning"
    assert "sum" in one.text


MODES = [
    (".secrets", 0o644, "problem"),
    (".secrets", 0o640, "warning"),
    (".env", 0o644, "warning"),
    (".fnrun/keys.json", 0o644, "warning"),
    (".fnrun", 0o777, "problem"),
    ("functions", 0o777, "problem"),
    ("functions.toml", 0o666, "problem"),
]


@pytest.mark.parametrize(("path", "mode", "level"), MODES)
def test_files_that_others_may_read_or_write_are_named(path, mode, level):
    (one,) = found(machine={"modes": {path: mode}}).values()
    assert (one.area, one.about, one.level) == ("access", path, level)
    assert f"{mode:o}" in one.text
    assert "chmod" in one.fix


@pytest.mark.parametrize(("path", "mode"), [(".fnrun", 0o755), (".fnrun/keys.json", 0o600), ("functions", 0o755)])
def test_files_that_others_may_do_no_harm_with_are_well(path, mode):
    assert found(machine={"modes": {path: mode}}) == {}


QUEUES = [
    ({"ready": 10, "age_seconds": 120.0}, "warning", "2 min"),
    ({"ready": 10, "age_seconds": 7200.0}, "problem", "2 h"),
    ({"paused": True}, "warning", "paused"),
    ({"unknown": 2}, "problem", "no worker knows"),
]


@pytest.mark.parametrize(("facts", "level", "said"), QUEUES, ids=str)
def test_a_queue_that_is_not_well_is_named(facts, level, said):
    queue = msgspec.structs.replace(QUEUE, name="mail", **facts)
    (one,) = found(work={"queues": (queue,)}).values()
    assert (one.area, one.about, one.level) == ("queues", "mail", level)
    assert said in one.text


def test_work_that_waits_in_a_queue_that_no_worker_takes_from_is_a_problem():
    queue = msgspec.structs.replace(QUEUE, name="mail", ready=1)
    deaf = msgspec.structs.replace(WORKER, queues=("default",))
    one = found(work={"queues": (queue,)}, roles={"workers": (deaf,)})["queues: mail"]
    assert one.level == "problem"
    assert "no worker takes" in one.text


def test_one_queue_of_many_is_judged_by_its_worst():
    queue = msgspec.structs.replace(QUEUE, ready=1, age_seconds=120.0, paused=True)
    assert len(found(work={"queues": (queue,)})) == 1


def test_dead_letters_are_counted_by_function():
    one = found(work={"dead": {"sum": 3, "mail.send": 1}})["queues: dead letters"]
    assert one.level == "warning"
    assert "4" in one.text
    assert "sum (3)" in one.text


def test_functions_that_do_not_load_are_a_problem_each():
    failed = found(code={"failures": ("functions/a.py:3: no", "functions/b.py: no")})
    assert [one.level for one in failed.values()] == ["problem", "problem"]


def test_an_alert_that_would_run_what_is_not_there_is_a_problem():
    one = found(code={"alerts": ('functions.toml: alerts."a".run: no function "no.such"',)})["functions: alerts"]
    assert (one.level, "no.such" in one.text) == ("problem", True)


def test_a_lifespan_that_does_not_load_stops_all():
    one = found(code={"served": False})["functions: _lifespan.py"]
    assert one.level == "problem"
    assert "nothing is served" in one.text
