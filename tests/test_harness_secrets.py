"""Environments and secrets of functions, in the process of all and in one of their own."""

import os
import secrets as random
from pathlib import Path
from textwrap import dedent

import pytest

from runtime.base.secrets.masking import MASK
from runtime.base.secrets.sealing import Key, Keyring, new_key
from runtime.testing import Harness

FUNCTIONS = """
    import os
    from functions._lifespan import Pool
    from runtime import Context, Problem, fn, http, queue

    @http.get("/pay")
    @fn(env={"CURRENCY": "EUR", "SHOP": "code"}, secrets=["STRIPE"])
    def pay(ctx: Context):
        env = ctx.env
        return [ctx.secrets["STRIPE"], env["CURRENCY"], env["SHOP"], repr(ctx.secrets), env.get("FNRUN_SECRET_KEY")]

    @http.get("/apart")
    @fn(isolation="process", env={"CURRENCY": "EUR"}, secrets=["STRIPE"])
    def apart(ctx: Context):
        known = {name: os.environ[name] for name in ("GREETING", "OTHER", "CURRENCY", "TOKEN") if name in os.environ}
        return [dict(ctx.secrets), known, [name for name in os.environ if name.startswith("FNRUN_")]]

    @http.get("/asks")
    @fn(secrets=[])
    def asks(ctx: Context):
        return [os.environ["GREETING"], ctx.secrets.get("STRIPE", "not for me"), ctx.secrets["STRIPE"]]

    @http.get("/refuses")
    @queue("default")
    @fn(secrets=["STRIPE"], retries=1)
    def refuses(ctx: Context):
        raise Problem(409, "refused", detail=f"with {ctx.secrets['STRIPE']}")

    @http.get("/pool")
    def pooled(pool: Pool, ctx: Context):
        return [pool.url, sorted(ctx.resources), dict(ctx.secrets)]

    @http.get("/pool_apart")
    @fn(isolation="process")
    def pooled_apart(pool: Pool, ctx: Context):
        return [pool.url, sorted(ctx.resources), dict(ctx.secrets)]

    @queue("default")
    @fn(secrets=["STRIPE"], retries=1, isolation="process")
    def refuses_apart(ctx: Context):
        raise ValueError(f"with {ctx.secrets['STRIPE']}")
"""


LIFESPAN = """
    from runtime import resource, startup

    secrets = ["DATABASE_URL"]

    class Pool:
        def __init__(self, url):
            self.url = url

    @resource
    def pool(secrets) -> Iterator[Pool]:
        yield Pool(secrets["DATABASE_URL"])

    @startup
    def look(secrets, pool):
        assert pool.url == secrets["DATABASE_URL"]
"""


@pytest.fixture
def value() -> str:
    return random.token_hex(8)


@pytest.fixture
async def harness(write_project, value, monkeypatch):
    key = new_key()
    ring = Keyring((Key.parse(key),))
    monkeypatch.setenv("FNRUN_SECRET_KEY", key)
    token = ring.seal("functions.shop.apart.env.TOKEN", "open")
    files = {
        "functions/shop.py": FUNCTIONS,
        "functions/_lifespan.py": "from collections.abc import Iterator\n" + dedent(LIFESPAN),
        "functions.toml": f"""
            [functions."shop.pay"]
            env = {{ SHOP = "toml" }}
            [functions."shop.apart"]
            env = {{ TOKEN = "{token}" }}
            secrets = ["OTHER"]
            [connections.DATABASE_URL]
            driver = "postgresql"
            password_from = "STRIPE"
        """,
        ".env": "GREETING=hello\nOTHER=another\n",
        ".secrets": f"STRIPE={ring.seal('STRIPE', value)}\nUNUSED={ring.seal('UNUSED', value + value)}\n",
    }
    root = write_project(**files)
    async with Harness(Path(root)) as harness:
        yield harness


async def test_a_function_has_the_secrets_it_names_and_its_environment(harness, value):
    found = (await harness.http.get("/pay")).json()
    assert found == [value, "EUR", "toml", "Secrets(STRIPE=****)", None]


async def test_one_that_names_none_has_none_and_is_told_so(harness, log):
    assert (await harness.http.get("/asks")).status_code == 500
    assert 'names no secret "STRIPE", so it is given none; write @fn(secrets=["STRIPE"])' in str(log.entries)


async def test_an_isolated_function_gets_its_own_and_nothing_else(harness, value):
    found = (await harness.http.get("/apart")).json()
    assert found == [{"STRIPE": value, "OTHER": "another"}, {"CURRENCY": "EUR", "TOKEN": "open"}, []]


@pytest.mark.parametrize("path", ["/pool", "/pool_apart"])
async def test_resources_are_given_the_secrets_that_their_file_names_and_handlers_are_not(path, harness, value):
    assert (await harness.http.get(path)).json() == [f"postgresql://:{value}@localhost", ["pool"], {}]


async def test_a_secret_in_an_error_is_masked_for_its_caller_and_in_the_ledger(harness, value):
    answer = await harness.http.get("/refuses")
    assert (answer.status_code, answer.json()["detail"]) == (409, f"with {MASK}")
    for function in ("shop.refuses", "shop.refuses_apart"):
        run = await harness.submit(function)
        await harness.run_until_idle()
        kept = harness.run(run.id)
        assert kept.state == "failed"
        assert value not in str(kept)
        assert value not in (await harness.http.get(f"/_/runs/{run.id}")).text
    assert f"with {MASK}" in str(kept)


async def test_what_env_says_is_gone_with_the_harness(harness):
    assert os.environ["GREETING"] == "hello"
    await harness.__aexit__(None, None, None)
    assert "GREETING" not in os.environ
    await harness.__aenter__()
