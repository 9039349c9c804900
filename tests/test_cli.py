"""The `fnrun` command, called in process."""

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from runtime.base.settings import load_settings
from runtime.cli import main
from runtime.cli.printing import fire_lines
from runtime.declare.timing.calendar import Timing
from runtime.ledger.desk import open_desk
from runtime.ledger.once import key_of_function
from tests.conftest import ROOT

FILES = {
    "functions/app.py": """
        import asyncio
        from collections.abc import AsyncIterator
        from runtime import Context, Problem, Request, Tick, at, cron, fn, http, interval, queue

        @http.post("/add")
        @queue("sums")
        @cron("0 6 * * mon-fri", tz="Europe/Paris", payload={"x": 1, "y": 2})
        @interval("15m", payload={"x": 1, "y": 2})
        @at("2030-01-01T00:00:00+01:00", payload={"x": 1, "y": 2})
        @fn(concurrency=2, timeout="5s", key="x")
        async def add(x: int, y: int) -> int:
            \"\"\"Add two numbers.

            More of it.
            \"\"\"
            return x + y

        @http.get("/open", auth="public")
        def handler(ctx: Context) -> str:
            return ctx.trigger

        @fn()
        async def numbers(upto: int = 2) -> AsyncIterator[int]:
            for n in range(upto):
                yield n

        @fn()
        async def fails() -> None:
            raise Problem(404, "no such thing")

        @fn(timeout="50ms")
        async def slow() -> None:
            await asyncio.sleep(9)

        @fn()
        async def odd() -> object:
            return object()

        @http.get("/needs")
        async def needs(request: Request) -> None: ...

        @fn()
        async def off() -> None: ...
        """,
    "functions.toml": """
        [functions."app.off"]
        enabled = false
        """,
}


@pytest.fixture
def root(write_project) -> Path:
    return write_project(**FILES)


@pytest.fixture
def fnrun(root: Path):
    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, ["--dir", str(root), *arguments], input=stdin)

    return run


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        ("worker", "fnrun serve"),
        ("multi", "[queue] workers"),
        ("call", "fnrun invoke NAME --async"),
        ("result", "fnrun runs show ID"),
        ("purge", "fnrun runs cancel"),
        ("beat", "fnrun serve --only scheduler"),
        ("migrate", "fnrun celery broker-url"),
    ],
)
def test_celery_commands_that_would_mislead_name_what_to_use(fnrun, command: str, instead: str):
    result = fnrun("celery", "--quiet", command, "app.add")
    assert (result.exit_code, instead in result.output) == (1, True)


def test_flower_that_is_not_installed_is_said_to_be(fnrun, monkeypatch):
    monkeypatch.setattr("runtime.working.find_spec", lambda _: None)
    result = fnrun("celery", "flower", "--port=5555")
    assert (result.exit_code, "Flower is not installed here: pip install flower" in result.output) == (1, True)


def test_list_shows_every_trigger(fnrun):
    result = fnrun("list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:7] == [
        "app.add  functions/app.py:6  Add two numbers.",
        "    POST /add  (key)",
        '    queue "sums"',
        '    cron "0 6 * * mon-fri" Europe/Paris',
        "    every 900 s",
        "    at 2029-12-31T23:00:00+00:00",
        "app  functions/app.py:19",
    ]
    assert "    GET /open  (public)" in lines
    assert "    no trigger: called by name only" in lines
    assert lines[-1] == "app.off  disabled in functions.toml"


def test_list_shows_the_next_fires_of_each_schedule_and_its_id(fnrun, root: Path):
    lines = fnrun("list", "--next", "2").stdout.splitlines()
    first, second = (line for line in lines if re.fullmatch(r"        \S+Z  \w+ \S+ 06:00:00\+0[12]00", line))
    assert first < second
    assert len([line for line in lines if re.fullmatch(r"        \d{4}-\d\d-\d\dT\d\d:\d[05]:00Z  \w{3}", line)]) == 3
    assert "        2029-12-31T23:00:00Z  Mon" in lines
    assert any(re.search(r"  app\.add:cron-[0-9a-f]{8}$", line) for line in lines)
    (root / "functions.toml").write_text('[schedules.nightly]\nfunction = "app.slow"\ninterval = "1h"\n')
    assert "    every 3600 s" in fnrun("list").stdout
    assert fnrun("list").stdout.count("  nightly") == 1
    (root / "functions.toml").write_text('[schedules.nightly]\nfunction = "app.add"\ncron = "0 25 * * *"\n')
    assert "functions.toml:1: [schedules.nightly]: @cron('0 25 * * *'): bad hour '25'" in fnrun("check").stderr


def test_next_fires_say_where_the_clocks_are_changed():
    paris = Timing(cron="30 2 * * *", tz="Europe/Paris")
    assert list(fire_lines(paris, datetime(2026, 3, 28, 1, tzinfo=UTC), 2)) == [
        "2026-03-28T01:30:00Z  Sat 2026-03-28 02:30:00+0100",
        "2026-03-29T01:00:00Z  Sun 2026-03-29 03:00:00+0200  the clocks skip the time it names",
    ]
    assert list(fire_lines(paris, datetime(2026, 10, 24, 12, tzinfo=UTC), 1)) == [
        "2026-10-25T00:30:00Z  Sun 2026-10-25 02:30:00+0200  the clocks show this time twice; it fires the first time",
    ]
    new_year = datetime(2026, 1, 1, tzinfo=UTC)
    assert list(fire_lines(Timing(every_ms=3_600_000), new_year, 1)) == ["2026-01-01T01:00:00Z  Thu"]
    assert list(fire_lines(Timing(at_ms=1), new_year, 5)) == ["never again"]


def test_list_of_nothing_says_what_to_do(write_project):
    result = CliRunner().invoke(main, ["--dir", str(write_project()), "list"])
    assert result.stdout == "no functions yet: put a file with a decorated function into functions/\n"


def test_check_counts_what_is_well(fnrun):
    result = fnrun("check")
    assert (result.exit_code, result.stdout) == (0, "7 function(s), no problems\n")


def test_check_prints_each_problem_with_its_place_and_exits_1(fnrun, root: Path):
    (root / "functions" / "bad.py").write_text("from runtime import http\n\n@http.get('x')\ndef f(): ...\n")
    (root / "functions" / "worse.py").write_text("1 / 0\n")
    result = fnrun("check")
    assert result.exit_code == 1
    assert "functions/bad.py:3: @http: path 'x' does not start with \"/\"" in result.stderr
    assert "functions/worse.py:1: ZeroDivisionError: division by zero" in result.stderr
    assert "Traceback (most recent call last)" in result.stderr
    assert "Error: 2 problem(s)" in result.stderr
    assert "functions/worse.py:1" in fnrun("list").stderr


def test_openapi_prints_the_document_or_writes_it(fnrun, root: Path, tmp_path: Path):
    result = fnrun("openapi")
    assert result.exit_code == 0
    assert list(json.loads(result.stdout)["paths"]) == ["/add", "/open", "/needs"]
    assert result.stdout.startswith('{\n  "openapi": "3.1.0",\n')
    written = fnrun("openapi", "--output", str(tmp_path / "api.json"))
    assert (written.exit_code, written.stdout) == (0, "")
    assert (tmp_path / "api.json").read_text(encoding="utf-8") == result.stdout


def test_openapi_gives_no_document_that_lacks_what_does_not_load(fnrun, root: Path, tmp_path: Path):
    (root / "functions" / "bad.py").write_text("from runtime import http\n\n@http.get('x')\ndef f(): ...\n")
    result = fnrun("openapi", "--output", str(tmp_path / "api.json"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "functions/bad.py:3: @http: path 'x' does not start with" in result.stderr
    assert "Error: no document" in result.stderr
    assert not (tmp_path / "api.json").exists()


def test_openapi_says_when_it_cannot_write(fnrun, tmp_path: Path):
    result = fnrun("openapi", "--output", str(tmp_path / "none" / "api.json"))
    assert (result.exit_code, "cannot be written: No such file" in result.stderr) == (1, True)


def test_no_functions_folder_is_said_with_the_fix(tmp_path: Path):
    result = CliRunner().invoke(main, ["--dir", str(tmp_path), "list"])
    assert result.exit_code == 1
    assert f"there is no functions/ folder in {tmp_path}; make one" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [(["--data", '{"x": 1, "y": 2}'], None), (["--data", "-"], '{"x": 1, "y": 2}'), (["--data", "@FILE"], None)],
)
def test_invoke_prints_the_result(fnrun, root: Path, arguments: list[str], stdin: str | None):
    (root / "data.json").write_text('{"x": 1, "y": 2}')
    arguments = [a.replace("FILE", str(root / "data.json")) for a in arguments]
    result = fnrun("invoke", "app.add", *arguments, stdin=stdin)
    assert (result.exit_code, result.stdout) == (0, "3\n")


def test_invoke_prints_each_item_of_a_stream(fnrun):
    assert fnrun("invoke", "app.numbers").stdout == "0\n1\n"
    assert fnrun("invoke", "app").stdout == '"cli"\n'


def test_a_stream_that_fails_midway_says_so_after_what_it_gave(fnrun, root: Path):
    source = "from runtime import fn\n@fn(timeout=5)\ndef stops():\n    yield 1\n    raise OSError('no more')\n"
    (root / "functions" / "stops.py").write_text(source)
    result = fnrun("invoke", "stops")
    assert (result.exit_code, result.stdout) == (1, "1\n")
    assert result.stderr == "Error: stops failed midway: OSError: no more\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["app.ad"], 'no function "app.ad"; did you mean "app.add"?'),
        (["zzz"], 'no function "zzz"; there are: app, app.add, '),
        (["app.off"], 'no function "app.off"; did you mean'),
        (["app.add", "--data", '{"x": "1"}'],
         "the input does not fit the function; x: Expected `int`, got `str` (at $); y: required, but missing (at $)"),
        (["app.add", "--data", '{"x": 1, "y": 2, "z": 3}'], "z: unknown argument (at $)"),
        (["app.add", "--data", "{"], "the body is not JSON: Input data was truncated"),
        (["app.add", "--data", "[1]"], "the payload is one JSON object of arguments by name"),
        (["app.add", "--data", "@nowhere"], "nowhere cannot be read: No such file or directory"),
        (["app.fails"], "app.fails failed: Problem: 404 no such thing"),
        (["app.slow"], "app.slow failed: it did not finish in time"),
        (["app.odd"], "the result cannot be written as JSON"),
        (["app.needs"], "a call by name cannot supply parameter request (request); give it a default of None"),
        (["app.add", "--url", "ftp://x"], "is not an http:// or https:// address"),
        (["app.add", "--url", "http://127.0.0.1:1"], "does not answer: "),
    ],
)  # fmt: skip
def test_invoke_says_what_is_wrong_and_exits_1(fnrun, arguments: list[str], message: str):
    result = fnrun("invoke", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stdout == ""


def test_invoke_shows_why_a_missing_function_is_missing(fnrun, root: Path):
    (root / "functions" / "bad.py").write_text("import nowhere\n")
    assert "functions/bad.py:1: ModuleNotFoundError" in fnrun("invoke", "bad").stderr


def test_config_prints_each_value_and_where_it_comes_from(fnrun, root: Path, monkeypatch):
    monkeypatch.setenv("FNRUN_LOG__LEVEL", "debug")
    (root / "functions.toml").write_text(
        '[http]\nmax_body = "2MB"\n[functions."app"]\nenv = { API_KEY = "s3", A = "b" }\n'
    )
    lines = fnrun("config", "--why").stdout.splitlines()
    assert 'http.bind = "127.0.0.1:8000"    # default' in lines
    assert "http.max_body = 2MB    # functions.toml" in lines
    assert 'log.level = "debug"    # FNRUN_LOG__LEVEL' in lines
    assert "functions.app.env.API_KEY = ********    # functions.toml" in lines
    assert 'functions.app.env.A = "b"    # functions.toml' in lines
    assert "http.max_body = 2MB" in fnrun("config").stdout.splitlines()


@pytest.mark.parametrize("bind", ["nowhere", "127.0.0.1:99999", "256.0.0.1:80"])
def test_a_bind_that_cannot_be_is_said(fnrun, bind: str):
    result = fnrun("serve", "--bind", bind)
    assert result.exit_code == 1
    assert bind in result.stderr


def test_help_names_every_command():
    result = CliRunner().invoke(main, ["--help"])
    for command in ("dev", "serve", "list", "invoke", "check", "config", "keys", "health"):
        assert f"\n  {command} " in result.stdout
    assert "serve-child" not in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "htp"], 'command line: serve.only[0]: there is no role "htp"; did you mean "http"?'),
        (
            ["--only", "http,schedler"],
            'command line: serve.only[1]: there is no role "schedler"; did you mean "scheduler"?',
        ),
        (["--only", ""], "command line: serve.only: Expected `array` of length >= 1"),
        (["--concurrency", "many"], "command line: queue.concurrency: Expected `int`, got `str`"),
        (["--concurrency", "0"], "command line: queue.concurrency: Expected `int` >= 1"),
        (["--queues", ","], "command line: queue.queues: Expected `array` of length >= 1"),
    ],
)
def test_roles_that_cannot_be_are_named(fnrun, options, message):
    result = fnrun("serve", *options)
    assert result.exit_code == 1
    assert message in result.stderr


def test_the_customers_function_adds():
    result = CliRunner().invoke(main, ["--dir", str(ROOT), "invoke", "sum", "--data", '{"x": 2, "y": 3}'])
    assert json.loads(result.stdout) == {"result": 5.0}


LIFESPAN = """
    import sys, time
    from runtime import resource, shutdown

    @resource
    async def db():
        print("db opens", file=sys.stderr)
        yield "db"
        print("db closes", file=sys.stderr)
    """
TAKES = """
    import time
    from runtime import fn

    @fn()
    def handler(db) -> str:
        return db

    @fn()
    async def stream(db):
        yield db

    @fn()
    def fails(db):
        raise ValueError(db)
    """


@pytest.mark.parametrize(
    ("name", "code", "output"),
    [("app", 0, '"db"'), ("app.stream", 0, '"db"'), ("app.fails", 1, "Error: app.fails failed: ValueError: db")],
)
def test_invoke_opens_the_resources_and_closes_them(write_project, name, code, output):
    root = write_project(**{"functions/_lifespan.py": LIFESPAN, "functions/app.py": TAKES})
    found = CliRunner().invoke(main, ["--dir", str(root), "invoke", name])
    assert (found.exit_code, found.output.count("db opens"), found.output.count("db closes")) == (code, 1, 1)
    assert output in found.output


def test_invoke_of_a_project_whose_lifespan_fails_names_it(write_project):
    root = write_project(**{"functions/_lifespan.py": LIFESPAN.replace("yield", "raise OSError('no'); yield")})
    (root / "functions" / "app.py").write_text("from runtime import fn\n@fn()\ndef handler(): ...\n")
    found = CliRunner().invoke(main, ["--dir", str(root), "invoke", "app"])
    assert found.exit_code == 1
    assert 'resource "db" of functions/_lifespan.py:5 cannot be opened: OSError: no' in found.output
    (root / "functions" / "_lifespan.py").write_text("middleware = 3")
    found = CliRunner().invoke(main, ["--dir", str(root), "invoke", "app"])
    assert found.exit_code == 1
    assert "`middleware` is a list here" in found.output
    assert "nothing runs without its resources" in found.output


ONCE = """
    from runtime import fn

    calls = []

    @fn(idempotent=lambda n: n or None)
    def handler(n: int, bad: bool = False) -> list:
        calls.append(n)
        if bad:
            raise ValueError("no")
        return [n, id(calls)]
"""


def test_invoke_heeds_what_a_function_says_of_calls_that_mean_the_same(write_project):
    root = write_project(**{"functions/app.py": ONCE})

    def invoke(n: int, **more: bool) -> str:
        found = CliRunner().invoke(main, ["--dir", str(root), "invoke", "app", "--data", json.dumps({"n": n, **more})])
        return found.stdout if found.exit_code == 0 else found.stderr

    assert "ValueError: no" in invoke(1, bad=True)
    first = invoke(1)  # what failed is not kept
    assert json.loads(first)[0] == 1
    assert invoke(1, bad=True) == first
    assert "ValueError: no" in invoke(0, bad=True)


def test_invoke_says_that_another_call_is_under_way(write_project):
    root = write_project(**{"functions/app.py": ONCE})
    desk = open_desk(root, load_settings(root).settings)
    asyncio.run(desk.holds.take(key_of_function("app", b"1"), "another", "", lambda: None))
    found = CliRunner().invoke(main, ["--dir", str(root), "invoke", "app", "--data", '{"n": 1}'])
    desk.close()
    assert found.exit_code == 1
    assert "app: a call with the same key is under way; try again in a moment" in found.stderr
