"""`fnrun dev` as a real process: open, restarted on save, gone with its parent."""

import os
import signal

import httpx
import pytest

from tests.live_servers import until

pytestmark = pytest.mark.live

APP = {
    "functions/app.py": """
        import os
        from runtime import http

        @http.get("/answer")
        async def answer() -> int:
            return 1

        @http.get("/pid")
        async def pid() -> int:
            return os.getpid()
        """
}


@pytest.fixture
def root(write_project):
    return write_project(**APP)


@pytest.fixture
def server(root, start):
    return start(root, "dev", "--bind", "127.0.0.1:0")


def test_a_change_is_served_without_a_refused_request(root, server):
    with server.client() as client:
        assert client.get("/answer").json() == 1
    path = root / "functions" / "app.py"
    path.write_text(path.read_text().replace("return 1", "return 2"))
    until(lambda: httpx.get(f"{server.url}/answer", timeout=10).json() == 2)
    assert server.stop() == 0


def test_a_file_that_breaks_is_on_screen_and_mends(root, server):
    with server.client() as client:
        assert client.get("/answer").json() == 1
    (root / "functions" / "new.py").write_text("def broken(:\n")
    server.wait_for_line("functions/new.py:1: SyntaxError")
    (root / "functions" / "new.py").write_text("from runtime import http\n@http.get\ndef new(): return 'new'\n")
    until(lambda: httpx.get(f"{server.url}/new", timeout=10).status_code == 200)


def test_a_child_that_ends_is_said_and_answered_for_until_the_next_save(root, server):
    with server.client() as client:
        assert client.get("/answer").json() == 1
    (root / "functions.toml").write_text("[http]\nbnd = 1\n")
    server.wait_for_line("the server ended; mend what is wrong")
    answer = httpx.get(f"{server.url}/answer", timeout=10)
    assert (answer.status_code, answer.json()["detail"]) == (503, "the server ended; see its log")
    (root / "functions.toml").write_text("")
    until(lambda: httpx.get(f"{server.url}/answer", timeout=10).status_code == 200)


def test_files_called_like_modules_of_ours_do_no_harm(write_project, start):
    files = {f"{name}.py": "raise RuntimeError('not me')\n" for name in ("runtime", "click", "secrets", "h2", "queue")}
    server = start(write_project(**APP, **files), "dev", "--bind", "127.0.0.1:0")
    with server.client() as client:
        assert client.get("/answer").json() == 1


def test_each_call_has_a_line_with_its_duration(server):
    with server.client() as client:
        client.get("/answer")
    server.wait_for_line(r'"path": "/answer", "status": 200, "ms": [0-9.]+')


def test_the_child_ends_with_its_parent_even_if_that_is_killed(server):
    with server.client() as client:
        child = client.get("/pid").json()
    assert child != server.process.pid
    server.process.kill()

    def gone() -> bool:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        return False

    until(gone)


def test_ctrl_c_ends_both(server):
    with server.client() as client:
        client.get("/answer")
    assert server.stop(signal.SIGINT) == 0


def test_dev_refuses_foreign_hosts(server):
    with server.client(headers={"host": "evil.example"}) as client:
        assert client.get("/answer").status_code == 403
