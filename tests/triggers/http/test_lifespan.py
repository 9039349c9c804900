"""What functions/_lifespan.py adds for the whole project, and CORS by setting."""

import sys
import time

import pytest

from runtime.base.errors import StartError
from runtime.projects import load_project
from runtime.roles import HttpRole
from tests.conftest import client_of, client_on

APP = """
    from runtime import Problem, http

    class OutOfStock(LookupError):
        pass

    @http.get("/fails/{kind}")
    async def fails(kind: str):
        raise {"stock": OutOfStock("x1"), "key": KeyError("k"), "os": OSError("disk"), "problem": Problem(409)}[kind]

    @http.get("/sync")
    def sync():
        raise OutOfStock("x2")

    @http.get("/stream")
    async def stream():
        raise OutOfStock("x3")
        yield 1

    @http.post("/sum")
    async def add(x: int, y: int) -> int:
        return x + y
    """
LIFESPAN = """
    from functions import app
    from runtime import Problem, Reply
    from starlette.middleware import Middleware
    from starlette.responses import PlainTextResponse

    class Stamp:
        def __init__(self, app, name="plain"):
            self.app, self.name = app, name

        async def __call__(self, scope, receive, send):
            async def stamped(message):
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"x-stamp", self.name.encode())]
                await send(message)

            if scope["path"] == "/broken":
                raise ZeroDivisionError("in a middleware")
            await self.app(scope, receive, stamped)

    middleware = [Stamp, Middleware(Stamp, name="inner")]

    async def out_of_stock(request, error):
        return Reply({"sku": str(error), "path": request.path}, 410, {"x-handled": "yes"})

    def lookup(request, error):
        return PlainTextResponse("looked up in vain", 404)

    def conflict(request, error):
        raise Problem(423, "Locked")

    def broken(request, error):
        raise TypeError("the handler itself")

    exception_handlers = {app.OutOfStock: out_of_stock, LookupError: lookup, Problem: conflict, OSError: broken}
    """
PUBLIC = {"http__auth": "public"}


@pytest.fixture
async def http(write_project, log):
    root = write_project(**{"functions/app.py": APP, "functions/_lifespan.py": LIFESPAN})
    project = load_project(root, PUBLIC)
    assert project.registry.failures == ()
    role = HttpRole(project)
    async with client_on(role) as client:
        yield client
    role.invoker.threads.close()


async def test_middleware_is_around_every_answer_the_first_outermost(http):
    for path in ("/fails/key", "/nowhere", "/_/health"):
        answer = await http.get(path)
        assert answer.headers.get_list("x-stamp") == ["inner", "plain"]


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/fails/stock", 410, b'{"sku":"x1","path":"/fails/stock"}'),
        ("/sync", 410, b'{"sku":"x2","path":"/sync"}'),
        ("/stream", 410, b'{"sku":"x3","path":"/stream"}'),
        ("/fails/key", 404, b"looked up in vain"),
    ],
)
async def test_the_nearest_exception_handler_answers(http, log, path, status, body):
    answer = await http.get(path)
    assert (answer.status_code, answer.content) == (status, body)
    assert len(answer.headers["x-run-id"]) == 32
    assert [line for line in log.entries if line["log_level"] == "error"] == []


async def test_a_problem_may_be_handled_too(http):
    answer = await http.get("/fails/problem")
    assert (answer.status_code, answer.json()["title"]) == (423, "Locked")


async def test_one_for_every_exception_leaves_problems_as_they_are(write_project, log):
    lifespan = "def every(request, error): return 'handled'\nexception_handlers = {Exception: every}\n"
    files = {"functions/app.py": APP, "functions/_lifespan.py": lifespan}
    async with client_of(load_project(write_project(**files), PUBLIC)) as client:
        assert (await client.get("/fails/os")).json() == "handled"
        assert (await client.get("/fails/problem")).status_code == 409


async def test_a_handler_that_fails_is_a_500_with_both_errors_in_the_log(http, log):
    answer = await http.get("/fails/os")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    (line,) = [line for line in log.entries if line["event"] == "exception handler failed"]
    assert line["error"] == "OSError('disk')"


async def test_by_name_the_same_handlers_answer(write_project, http):
    answer = await http.post("/_/functions/app.sync/invoke", json={})
    assert answer.status_code == 401  # by name always takes a key


async def test_arguments_that_do_not_fit_are_no_matter_of_exception_handlers(http):
    assert (await http.post("/sum", json={"x": "a"})).status_code == 422


@pytest.mark.asgi  # no client is told that it was raised again
async def test_a_middleware_that_raises_is_answered_as_a_problem(http):
    with pytest.raises(ZeroDivisionError):  # raised again, for the server's log
        await http.get("/broken")
    http._transport.raise_app_exceptions = False
    answer = await http.get("/broken")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["detail"] == "a middleware raised ZeroDivisionError; see the log"
    assert answer.headers["x-run-id"] == answer.json()["run_id"]


async def test_one_that_cannot_be_made_stops_the_start(write_project):
    files = {"functions/_lifespan.py": "class M:\n    def __init__(self): ...\nmiddleware = [M]\n"}
    with pytest.raises(StartError, match=r"functions/_lifespan.py: a middleware cannot be made: TypeError"):
        HttpRole(load_project(write_project(**files)))


CORS = PUBLIC | {"cors__origins": "https://app.example, http://localhost:5173"}


async def test_no_origin_is_let_in_unless_settings_say_so(write_project):
    async with client_of(load_project(write_project(**{"functions/app.py": APP}), PUBLIC)) as client:
        answer = await client.get("/fails/key", headers={"origin": "https://app.example"})
        assert "access-control-allow-origin" not in answer.headers


async def test_a_named_origin_sees_answers_errors_and_the_run_id(write_project):
    async with client_of(load_project(write_project(**{"functions/app.py": APP}), CORS)) as client:
        for path, status in (("/fails/key", 500), ("/nowhere", 404)):
            answer = await client.get(path, headers={"origin": "https://app.example"})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (
                status,
                "https://app.example",
            )
            assert "X-Run-Id" in answer.headers["access-control-expose-headers"]
        other = await client.get("/nowhere", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_a_preflight_needs_no_key(write_project):
    project = load_project(write_project(**{"functions/app.py": APP}), CORS | {"http__auth": "key"})
    asks = {
        "origin": "http://localhost:5173",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    async with client_of(project) as client:
        answer = await client.options("/sum", headers=asks)
        assert (answer.status_code, answer.headers["access-control-max-age"]) == (200, "600")
        assert "authorization" in answer.headers["access-control-allow-headers"].lower()
        assert (await client.post("/sum", headers={"origin": "http://localhost:5173"})).status_code == 401


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        ("http://localhost:5173", "http://localhost:5173", 200),
        ("http://localhost:5173", "https://evil.example", 403),
        ("*", "http://localhost:5173", 200),
        ("*", "https://evil.example", 403),
        ("", "http://localhost:5173", 403),
    ],
)
async def test_dev_takes_unsafe_calls_of_named_or_local_origins_only(write_project, origins, origin, status):
    project = load_project(write_project(**{"functions/app.py": APP}), {"cors__origins": origins})
    async with client_of(project, open_locally=True) as client:
        answer = await client.post("/sum", json={"x": 1, "y": 2}, headers={"origin": origin})
        assert answer.status_code == status


HANGING = """
    import asyncio, threading
    from runtime import http

    go_on = threading.Event()

    @http.get("/fails/{kind}")
    async def fails(kind: str):
        raise {"thread": KeyError, "loop": ValueError, "deaf": OSError}[kind](kind)
    """
HANGING_HANDLERS = """
    import asyncio
    from functions import app

    def in_thread(request, error):
        app.go_on.wait(30)

    async def in_loop(request, error):
        await asyncio.sleep(30)

    async def deaf(request, error):
        for _ in range(3):
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                pass

    exception_handlers = {KeyError: in_thread, ValueError: in_loop, OSError: deaf}
    """


@pytest.mark.parametrize("kind", ["thread", "loop", "deaf"])
async def test_an_exception_handler_that_hangs_is_left_when_its_time_is_over(write_project, log, kind: str):
    root = write_project(**{"functions/app.py": HANGING, "functions/_lifespan.py": HANGING_HANDLERS})
    project = load_project(root, {**PUBLIC, "http__timeout": "200ms"})
    assert project.registry.failures == ()
    role = HttpRole(project)
    started = time.monotonic()
    async with client_on(role) as client:
        answer = await client.get(f"/fails/{kind}")
    assert answer.json()["detail"] == "the function failed; its log has the run id"
    assert answer.status_code == 500
    assert time.monotonic() - started < 10
    (line,) = [line for line in log.entries if line["event"] == "exception handler failed"]
    assert (line["reason"], line["run_id"]) == ("it took longer than 0.2 s", answer.headers["x-run-id"])
    sys.modules["functions.app"].go_on.set()
    role.invoker.threads.close()


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://evil.example", None), ("http://localhost:5173", "http://localhost:5173")]
)
async def test_every_origin_means_those_of_this_machine_where_no_key_is_asked_for(write_project, origin, allowed):
    project = load_project(write_project(**{"functions/app.py": APP}), {"cors__origins": "*"})
    async with client_of(project, open_locally=True) as client:
        answer = await client.get("/_/functions", headers={"origin": origin})
        assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (200, allowed)


async def test_a_refused_preflight_is_a_problem_with_a_run_id(write_project):
    asks = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    async with client_of(load_project(write_project(**{"functions/app.py": APP}), CORS)) as client:
        answer = await client.options("/sum", headers=asks)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
        assert answer.json()["run_id"] == answer.headers["x-run-id"]
        assert answer.json()["detail"] == "Disallowed CORS origin"
