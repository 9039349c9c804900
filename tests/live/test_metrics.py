"""Metrics of several real processes: one scrape tells of all, whoever answers it, and whoever has died."""

import os
import signal

import httpx
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from runtime.cli import main
from tests.commands import good
from tests.live_servers import Server, until
from tests.stores import free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

SHOP = """
    import time
    from runtime import cron, http, queue

    @http.get("/hello", auth="public")
    async def hello() -> str:
        return "hello"

    @http.post("/work", auth="public")
    @queue("default")
    async def work() -> int:
        return 1

    @http.get("/block", auth="public")
    async def block() -> int:
        time.sleep(1.6)

    @cron("* * * * * *")
    async def tick() -> None: ...
    """


def scrape(url: str, **headers: str) -> dict[tuple[str, ...], float]:
    """Each sample: its name, then the values of its labels, in the order of their names."""
    answer = httpx.get(f"{url}/_/metrics", headers=headers, timeout=10)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def processes(server: Server, kind: str) -> list[int]:
    return [pid for pid, command in server.family().items() if f" {kind}-child " in command]


def test_one_scrape_tells_of_all_processes_and_of_those_that_have_died(write_project, start):
    port = free_port()
    root = write_project(
        **{
            "functions/shop.py": SHOP,
            "functions.toml": f'[http]\nworkers = 2\n[ops]\nbind = "127.0.0.1:{port}"\n',
        }
    )
    server, ops = start(root, "serve", "--bind", "127.0.0.1:0", roles=None), f"http://127.0.0.1:{port}"
    url = server.url

    def hello(count: int) -> None:
        for _ in range(count):  # each over a connection of its own, so that both processes get some
            assert httpx.get(f"{url}/hello").json() == "hello"

    def called(function: str, trigger: str) -> float:
        return scrape(ops).get(("fnrun_invocations_total", f"shop.{function}", "succeeded", trigger), 0)

    hello(20)
    assert called("hello", "http") == 20
    answer = httpx.post(f"{url}/work", headers={"prefer": "respond-async"})
    assert answer.status_code == 202
    until(lambda: called("work", "http") == 1, 30)
    until(lambda: called("tick", "cron") > 0, 30)
    found = scrape(ops)
    assert found["fnrun_tick_lateness_seconds_count", "shop.tick"] > 0
    roles = sorted(key[2] for key in found if key[0] == "fnrun_process_resident_memory_bytes")
    assert roles == ["http", "http", "ops", "parent", "scheduler", "worker"]
    assert found[("fnrun_workers",)] == found[("fnrun_schedulers",)] == 1

    assert httpx.get(f"{url}/_/metrics").status_code == 401, "on the public port it takes a key"
    assert httpx.get(f"{ops}/hello").status_code == 404, "and functions are served there alone"

    before = processes(server, "serve")
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(set(processes(server, "serve")) - set(before)) == 1, 30)
    until(lambda: scrape(ops).get(("fnrun_process_replacements_total", "http")) == 1, 30)
    until(lambda: httpx.get(f"{ops}/_/ready").status_code == 200, 30)
    hello(5)
    assert called("hello", "http") == 25, "what the dead one had counted is kept"

    httpx.get(f"{url}/block", timeout=20)
    until(lambda: scrape(ops).get(("fnrun_loop_blocked_total", "shop.block")) == 1, 30)

    assert server.stop() == 0


def test_a_worker_alone_is_asked_on_its_own_port_also_of_attempts_that_died_with_one(write_project, start):
    port = free_port()
    code = """
        import asyncio
        from pathlib import Path
        from runtime import queue

        @queue("default")
        async def hold() -> None:
            begun = Path(__file__).parents[1] / "begun"
            if not begun.exists():
                begun.touch()
                await asyncio.sleep(600)
        """
    settings = f'[ops]\nbind = "127.0.0.1:{port}"\n[queue]\nlease = "2s"\nbeat = "500ms"\n'
    root = write_project(**{"functions/a.py": code, "functions.toml": settings})
    server, ops = start(root, "serve", roles="worker"), f"http://127.0.0.1:{port}"
    server.wait_for_line("taking runs")
    assert httpx.get(f"{ops}/_/health").json()["processes"] == {"worker": 1}
    assert httpx.get(f"{ops}/_/ready").status_code == 200
    worker = processes(server, "worker")[0]
    os.kill(worker, signal.SIGSTOP)
    try:
        assert httpx.get(f"{ops}/_/health").status_code == 200
        assert scrape(ops)[("fnrun_store_up",)] == 1
    finally:
        os.kill(worker, signal.SIGCONT)

    def counted(name: str, *outcome: str) -> float | None:
        return scrape(ops).get((f"fnrun_{name}", "a.hold", *outcome, "cli"))

    good(CliRunner().invoke(main, ["--dir", str(root), "invoke", "a.hold", "--async"]))
    until((root / "begun").exists, 30)
    assert counted("invocations_in_flight") == 1
    os.kill(processes(server, "worker")[0], signal.SIGKILL)
    until(lambda: counted("invocations_total", "succeeded") == 1, 60)
    assert counted("invocations_total", "crashed") == 1
    assert counted("retries_total") == 1
    assert counted("invocations_in_flight") == 0
    assert server.stop() == 0
