"""A canary: a secret that its function says in every error it makes is found nowhere, in none of the roles."""

import os
import secrets as random
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.base.secrets.masking import MASK
from runtime.base.secrets.sealing import Key, Keyring, new_key
from tests.live_servers import until

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

FUNCTIONS = """
    import logging, os
    from pathlib import Path
    from runtime import Context, Problem, background, fn, http, queue

    class Odd(Exception):
        pass

    def leak(how, value):
        if how == "problem":
            raise Problem(409, f"refused {value}", detail=[{"value": value}])
        if how == "log":
            logging.getLogger("mine").warning("with %s", {"value": value})
        if how == "exit":
            raise SystemExit(f"ends with {value}")
        raise Odd(f"failed with {value}", value) from KeyError(value)

    @http.post("/plain/{how}")
    @queue("default")
    @fn(retries=1, secrets=["CANARY"])
    async def plain(how: str, ctx: Context):
        ctx.log.warning("about to fail", value=ctx.secrets["CANARY"])
        leak(how, ctx.secrets["CANARY"])

    @http.post("/thread/{how}")
    @fn(retries=1, secrets=["CANARY"])
    def thread(how: str, ctx: Context):
        leak(how, ctx.secrets["CANARY"])

    @http.post("/apart/{how}")
    @queue("default")
    @fn(retries=1, secrets=["CANARY"], isolation="process")
    def apart(how: str, ctx: Context):
        leak(how, ctx.secrets["CANARY"])

    @http.post("/said")
    @fn(isolation="process")
    def said(ctx: Context):
        return [dict(os.environ), Path("/proc/self/environ").read_text(), dict(ctx.env), dict(ctx.secrets)]

    @http.get("/greeting")
    @fn(secrets=["GREETING"])
    async def greeting(ctx: Context) -> str:
        return ctx.secrets["GREETING"]
"""


def tree(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from tree(int(child))


def contents_of(*tops: Path) -> dict[Path, bytes]:
    """Of every file below."""
    files = [Path(folder, name) for top in tops for folder, _, names in os.walk(top) for name in names]
    return {file: file.read_bytes() for file in files if file.is_file()}


def test_a_secret_is_found_nowhere_and_a_new_one_is_taken_up(write_project, start, tmp_path):
    canary, key = random.token_urlsafe(16), new_key()
    ring = Keyring((Key.parse(key),))
    greeting = f"GREETING={ring.seal('GREETING', 'a greeting')}\n"
    sealed = f"CANARY={ring.seal('CANARY', canary)}\n"
    root = Path(write_project(**{"functions/shop.py": FUNCTIONS, ".secrets": sealed + greeting}))
    (tmp_path / "tmp").mkdir()
    environ = {"FNRUN_SECRET_KEY": key, "TMPDIR": str(tmp_path / "tmp"), "FNRUN_LOG__FORMAT": "json"}
    server = start(root, "dev", "--bind", "127.0.0.1:0", environ=environ, roles=None)
    with server.client() as client:
        ways = [
            f"/{name}/{how}" for name in ("plain", "thread", "apart") for how in ("problem", "log", "exit", "error")
        ]
        answers = [client.post(way) for way in ways]
        ids = []
        for function in ("plain", "apart"):
            for how in ("problem", "error"):
                headers = {"prefer": "respond-async"}
                answers.append(client.post(f"/{function}/{how}", headers=headers))
                assert answers[-1].status_code == 202, answers[-1].text
                ids.append(answers[-1].json()["id"])

        def ended() -> bool:
            return all(client.get(f"/_/runs/{one}").json()["state"] == "failed" for one in ids)

        until(ended, seconds=40)
        paths = [f"/_/runs/{one}" for one in ids] + ["/_/runs", "/_/functions", "/_/openapi.json", "/_/health"]
        answers += [client.get(path) for path in paths]
        said = client.post("/said")
        assert said.status_code == 200
        assert key not in said.text
        processes = [Path(f"/proc/{pid}") for pid in tree(server.process.pid)]
        shown = [(one / "cmdline").read_bytes().decode() for one in processes]
        given = [(one / "environ").read_bytes().decode() for one in processes]

        assert client.get("/greeting").json() == "a greeting"
        (root / ".secrets").write_text(f"GREETING={ring.seal('GREETING', 'another')}\n{sealed}")
        until(lambda: client.get("/greeting").json() == "another", seconds=40)
    assert server.stop() == 0

    assert canary not in "".join(answer.text + str(answer.headers) for answer in answers) + said.text
    assert canary not in "".join(shown + given)
    assert key not in "".join(shown)
    assert canary not in server.output
    assert key not in server.output
    assert server.output.count(MASK) > 10
    contents = contents_of(root, tmp_path)
    assert any("aof" in file.name for file in contents), "what the store has written is among them"
    assert [file for file, content in contents.items() if canary.encode() in content or key.encode() in content] == []
    assert any(b"failed with ****" in content for content in contents.values())
