"""`fnrun doctor` by real stores: one that is as it should be, and one that is set up badly."""

import json
import os
import socket

import pytest
from click.testing import CliRunner

from runtime.base.sections import HttpSettings
from runtime.cli import main
from runtime.doctor.http import ask_http
from runtime.doctor.machine import _unmet, machine_of
from tests.live_servers import until
from tests.stores import TcpStore

FUNCTIONS = {
    "functions/shop.py": """
        from runtime import cron, fn, http, queue

        @http.get("/open", auth="public")
        def open_to_all() -> int: ...

        @cron("0 6 * * *", tz="Europe/Paris")
        @queue("mail")
        @fn(isolation="process", memory="64MB")
        def mail() -> int: ...
        """
}


def doctor(root, *arguments: str) -> tuple[int, dict[str, dict]]:
    """Its exit code, and what it found, by area and what it is about."""
    result = CliRunner().invoke(main, ["--dir", str(root), "doctor", "--json", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    found = json.loads(result.stdout)["findings"]
    return result.exit_code, {f"{one['area']}: {one['about']}": one for one in found}


def test_the_embedded_store_is_well_and_roles_that_do_not_run_are_missed(write_project):
    code, found = doctor(write_project(**FUNCTIONS, **{"functions.toml": '[http]\nbind = "127.0.0.1:1"\n'}))
    assert code == 0
    assert {about for about, one in found.items() if one["level"] != "ok"} == {
        "roles: http", "roles: worker", "roles: scheduler",
    }  # fmt: skip


def test_a_badly_configured_project_is_told_what_to_do(write_project, tmp_path):
    options = "--appendonly", "no", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"
    with TcpStore(tmp_path, *options) as store:
        root = write_project(
            **FUNCTIONS,
            **{
                "functions/broken.py": "from runtime import fn\n1 / 0\n",
                "functions.toml": f'[http]\nbind = "0.0.0.0:1"\n[store]\nurl = "{store.url}"\n',
                ".secrets": "A=b\n",
            },
        )
        (root / ".secrets").chmod(0o644)
        code, found = doctor(root, "--quiet")
    assert code == 1
    levels = {about: one["level"] for about, one in found.items()}
    assert levels == {
        "store: persistence": "problem",
        "store: eviction": "problem",
        "functions: functions/broken.py:2": "problem",
        "roles: http": "warning",
        "roles: worker": "warning",
        "roles: scheduler": "warning",
        "access: TLS": "warning",
        "access: public functions": "warning",
        "access: .secrets": "problem",
    }
    assert "shop.open_to_all" in found["access: public functions"]["text"]
    assert "appendonly yes" in found["store: persistence"]["fix"]


def test_a_store_that_is_away_is_a_problem_and_the_rest_is_still_told(write_project):
    url = "redis://me:canary@127.0.0.1:1/0"
    result = CliRunner().invoke(
        main, ["--dir", str(write_project(**FUNCTIONS, **{"functions.toml": f'[store]\nurl = "{url}"\n'})), "doctor"]
    )
    assert result.exit_code == 1
    assert "cannot be reached" in result.output
    assert "functions: loaded" in result.output
    assert "canary" not in result.output


def test_what_a_store_does_not_permit_to_be_asked_is_said_to_be_unknown(write_project, tmp_path):
    with TcpStore(tmp_path, "--user", "me", "on", ">canary", "~*", "&*", "+@all", "-info", "-config") as store:
        url = store.url.replace("redis://", "redis://me:canary@")
        root = write_project(**FUNCTIONS, **{"functions.toml": f'[store]\nurl = "{url}"\n[serve]\nonly = ["http"]\n'})
        code, found = doctor(root, "--quiet")
    assert code == 0
    unknown = {about for about, one in found.items() if "could not be asked" in one["text"]}
    assert unknown == {"store: persistence", "store: eviction"}
    assert "canary" not in json.dumps(found)


def test_a_store_that_does_not_answer_is_a_problem(write_project, tmp_path):
    with TcpStore(tmp_path) as store:
        root = write_project(**FUNCTIONS, **{"functions.toml": f'[store]\nurl = "{store.url}"\n'})
        store.freeze()
        code, found = doctor(root, "--quiet")
        store.thaw()
    assert (code, found["store: reached"]["level"]) == (1, "problem")


@pytest.mark.live
def test_a_system_that_runs_is_seen(write_project, start):
    with socket.create_server(("127.0.0.1", 0)) as free:
        bind = f"127.0.0.1:{free.getsockname()[1]}"
    upload = """
        from runtime import Request, http

        @http.post("/upload")
        async def upload(request: Request) -> int: ...
        """
    settings = f'[http]\nbind = "{bind}"\n'
    root = write_project(**FUNCTIONS, **{"functions/up.py": upload, "functions.toml": settings})
    server = start(root, "serve", roles=None)
    server.wait_for_line('"event": "taking runs"')
    until(lambda: all(one["level"] == "ok" for one in doctor(root)[1].values()), 20)
    code, found = doctor(root)
    assert code == 0
    assert "@" in found["roles: worker"]["text"]
    assert found["roles: functions"]["level"] == "ok"


def test_who_is_no_fnrun_is_not_taken_for_one():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bind = f"127.0.0.1:{silent.getsockname()[1]}"
        silent.close()
    version, why = ask_http(HttpSettings(bind=bind))
    assert version == ""
    assert "refused" in why.lower()


def test_requirements_that_are_not_met_are_named():
    lines = ["click>=1000", "nobody-has-this>=1", "click>=8", 'click>=1000; extra == "x"']
    assert [one.partition(":")[0] for one in _unmet(lines)] == ["click>=1000", "nobody-has-this is not installed"]


def test_zones_and_modes_are_found_out(tmp_path):
    (tmp_path / ".env").write_text("A=b")
    (tmp_path / ".env").chmod(0o640)
    facts = machine_of(tmp_path, {"Europe/Paris", "Mars/Olympus", "../etc"})
    assert facts.missing_zones == ("../etc", "Mars/Olympus")
    assert facts.modes == {".env": 0o640}
    assert facts.state_writable == os.access(tmp_path, os.W_OK)
    assert facts.unmet == ()
