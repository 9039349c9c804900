"""`fnrun dev` as a real process: open, up to date with each save, gone with its parent."""

import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

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


BLOCKS = "print('at work', flush=True)\n" + 4 * " " + "while True: pass"


@pytest.fixture
def root(write_project):
    return write_project(**APP)


@pytest.fixture
def server(root, start):
    return start(root, "dev", "--bind", "127.0.0.1:0")


def change(root, old: str, new: str) -> None:
    path = root / "functions" / "app.py"
    path.write_text(path.read_text().replace(old, new))


def test_a_change_is_served_by_the_same_process(root, server):
    with server.client() as client:
        assert client.get("/answer").json() == 1
        pid = client.get("/pid").json()
        change(root, "return 1", "return 2")
        until(lambda: client.get("/answer").json() == 2)
        assert client.get("/pid").json() == pid
    server.wait_for_line(
        r'"files": \["functions/app.py"\], "ms": [0-9.]+, "functions": 2, "failures": 0, "event": "reloaded"'
    )
    assert server.stop() == 0


def test_a_hundred_good_and_broken_saves_under_load_drop_no_request(root, server):
    path = root / "functions" / "app.py"
    good = path.read_text()
    answers: list[int] = []
    done = threading.Event()

    def call() -> None:
        with server.client() as client:
            while not done.is_set():
                answer = client.get("/answer")
                answers.append(answer.json() if answer.status_code == 200 else -answer.status_code)

    assert server.url
    caller = threading.Thread(target=call)
    caller.start()
    for number in range(1, 51):
        path.write_text("def broken(:\n")
        time.sleep(0.01)
        path.write_text(good.replace("return 1", f"return {number}"))
        time.sleep(0.01)
    until(lambda: answers[-1:] == [50])
    done.set()
    caller.join()
    assert min(answers) >= 1


def test_the_last_good_version_serves_while_the_new_one_is_broken(root, server):
    with server.client() as client:
        assert client.get("/answer").json() == 1
        change(root, "return 1", "return (")
        server.wait_for_line(
            r"does not load \(the last version that loaded serves on\): functions/app.py:7: SyntaxError"
        )
        assert client.get("/answer").json() == 1
        (failure,) = client.get("/_/functions").json()["failures"]
        assert (failure["file"], failure["line"], failure["serves_last"]) == ("functions/app.py", 7, True)
        assert "return (" in failure["traceback"]
        change(root, "return (", "return 3")
        until(lambda: client.get("/answer").json() == 3)
        assert client.get("/_/functions").json()["failures"] == []


def test_a_request_at_work_is_answered_by_the_version_it_began_with(root, server):
    with server.client() as client, ThreadPoolExecutor() as pool:
        change(root, "return 1", "import asyncio; print('at work', flush=True); await asyncio.sleep(1); return 1")
        until(lambda: server.output.count("reloaded"))
        slow = pool.submit(client.get, "/answer")
        server.wait_for_line('"at work"')
        change(root, "return 1", "return 2")
        until(lambda: server.output.count("reloaded") == 2)
        assert slow.result().json() == 1
        assert client.get("/answer").json() == 2


def test_a_handler_that_blocks_the_server_gives_way_to_its_mended_version(root, server):
    with server.client() as client, ThreadPoolExecutor() as pool:
        assert client.get("/answer").json() == 1
        change(root, "return 1", BLOCKS)
        until(lambda: "reloaded" in server.output)
        blocked = pool.submit(httpx.get, f"{server.url}/answer", timeout=20)
        server.wait_for_line('"at work"')
        change(root, BLOCKS, "return 4")
        server.wait_for_line("a handler blocks it")
        until(lambda: httpx.get(f"{server.url}/answer", timeout=20).json() == 4)
        with suppress(httpx.HTTPError):
            blocked.result()


def test_settings_take_a_new_process_and_the_old_one_serves_until_it_is_ready(root, server):
    with server.client() as client:
        pid = client.get("/pid").json()
    (root / "functions.toml").write_text("[http]\nbnd = 1\n")
    server.wait_for_line('unknown setting "http.bnd"')
    server.wait_for_line("the new version does not start, the old one serves on")
    assert httpx.get(f"{server.url}/pid").json() == pid
    (root / "functions.toml").write_text("[http]\ntimeout = 5\n")
    until(lambda: httpx.get(f"{server.url}/pid", timeout=10).json() != pid)


def test_so_does_the_lifespan(root, server):
    with server.client() as client:
        pid = client.get("/pid").json()
    (root / "functions" / "_lifespan.py").write_text("middleware = 3\n")
    server.wait_for_line("`middleware` is a list here")
    server.wait_for_line("the old one serves on")
    (root / "functions" / "_lifespan.py").write_text("middleware = []\n")
    until(lambda: httpx.get(f"{server.url}/pid", timeout=10).json() != pid)


def test_a_server_that_ends_is_said_and_answered_for_until_the_next_save(root, server):
    with server.client() as client:
        os.kill(client.get("/pid").json(), signal.SIGKILL)
    server.wait_for_line("the server ended; mend what is wrong")
    answer = httpx.get(f"{server.url}/answer", timeout=10)
    assert (answer.status_code, answer.json()["detail"]) == (503, "the server ended; see its log")
    change(root, "return 1", "return 2")
    until(lambda: httpx.get(f"{server.url}/answer", timeout=10).status_code == 200)


def test_a_new_file_is_served(root, server):
    with server.client() as client:
        assert client.get("/answer").json() == 1
        (root / "functions" / "new.py").write_text("def broken(:\n")
        server.wait_for_line("functions/new.py:1: SyntaxError")
        (root / "functions" / "new.py").write_text("from runtime import http\n@http.get\ndef new(): return 'new'\n")
        until(lambda: client.get("/new").status_code == 200)


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


def test_what_editors_drop_is_no_change(root, server):
    with server.client() as client:
        client.get("/answer")
        for name in ("4913", "app.py~", ".app.py.swp", "#app.py#", "__pycache__/app.pyc"):
            path = root / "functions" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("x")
        change(root, "return 1", "return 2")
        until(lambda: client.get("/answer").json() == 2)
    found = until(lambda: re.findall(r'"files": (.*?), "ms"', server.output))  # it is served before it is told
    assert found == ['["functions/app.py"]']


def test_a_change_of_the_folder_itself_is_none(root, server):
    with server.client() as client:
        assert client.get("/answer").json() == 1
        os.utime(root)
        root.chmod(0o700)
        change(root, "return 1", "return 2")
        until(lambda: client.get("/answer").json() == 2)
    assert server.stop() == 0


def test_functions_that_are_gone_for_a_moment_serve_on(root, server):
    with server.client() as client:
        assert client.get("/answer").json() == 1
        (root / "functions").rename(root / "away")
        server.wait_for_line("there is no functions/ folder|cannot be taken up")
        assert client.get("/answer").json() == 1
        server.wait_for_line("the old one serves on")
        (root / "away").rename(root / "functions")
        change(root, "return 1", "return 2")
        until(lambda: httpx.get(f"{server.url}/answer", timeout=10).json() == 2)


def test_very_many_files_at_once_are_taken_up(root, server):
    with server.client() as client:
        assert client.get("/answer").json() == 1
        for number in range(2_000):
            (root / "functions" / f"a_file_with_a_rather_long_name_{number}.py").write_text("X = 1\n")
        change(root, "return 1", "return 2")
        until(lambda: client.get("/answer").json() == 2, 30)
    assert "blocks it" not in server.output


def test_an_import_that_takes_long_ends_nobody(root, server):
    with server.client() as client:
        pid = client.get("/pid").json()
        (root / "functions" / "model.py").write_text("import time\ntime.sleep(8)\n")
        server.wait_for_line("still loading; the old version serves")
        assert client.get("/pid").json() == pid
        (root / "functions" / "model.py").unlink()
        change(root, "return 1", "return 2")  # and another save does not wait for it
        until(lambda: httpx.get(f"{server.url}/answer", timeout=10).json() == 2)


def test_a_stuck_server_that_is_being_replaced_does_not_outlive_its_parent(root, server):
    with server.client() as client:
        child = client.get("/pid").json()
    change(root, "return 1", BLOCKS)
    until(lambda: "reloaded" in server.output)
    with ThreadPoolExecutor() as pool:
        blocked = pool.submit(httpx.get, f"{server.url}/answer", timeout=20)
        server.wait_for_line('"at work"')
        (root / "functions.toml").write_text("[http]\ntimeout = 5\n")
        server.wait_for_line("listening")
        assert server.stop(signal.SIGINT) == 0
        with suppress(httpx.HTTPError):
            blocked.result()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
