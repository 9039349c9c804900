"""/_/metrics and /_/stats, in process: what calls and runs leave there."""

import asyncio
import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from runtime.admin.metrics.stats import quantile_ms
from runtime.ledger.metrics.flushing import Flush
from runtime.ledger.minutes import record
from runtime.ledger.records import Submission
from runtime.observe import counts
from runtime.observe.board import BOUNDS, Page
from runtime.projects import load_project
from tests.conftest import client_of
from tests.desks import Worker, submit

FILES = {
    "functions/shop.py": """
        import asyncio
        from runtime import Breaker, Problem, fn, http, queue

        @http.get("/sell")
        @http.post("/sell")
        async def sell() -> int:
            return 1

        @http.get("/fail")
        async def fail(): raise ValueError("no")

        @http.get("/missing")
        async def missing(): raise Problem(404)

        @http.get("/slow")
        @fn(timeout="50ms")
        async def slow(): await asyncio.sleep(60)

        @http.get("/hang")
        async def hang(): await asyncio.sleep(60)

        @http.get("/stream")
        async def stream():
            yield "1"
            yield "2"

        @http.get("/limited")
        @fn(breaker=Breaker(1, reset="30s"))
        async def limited(): raise ValueError("no")

        @http.get("/instead")
        @fn(fallback=7)
        async def instead(): raise ValueError("no")
        """,
}


@pytest.fixture
def root(write_project):
    return write_project(**FILES)


@pytest.fixture(autouse=True)
def page(monkeypatch):
    """Nothing has been counted yet."""
    page = Page.private()
    page.sign("http", 1)
    monkeypatch.setattr(counts._here, "page", page)
    return page


@pytest.fixture
async def client(root, desk, log):
    async with client_of(load_project(root), desk=desk, open_locally=True) as client:
        yield client


async def numbers(client, **headers) -> dict[tuple[str, ...], float]:
    """Each sample: its name, then the values of its labels, in the order of their names."""
    answer = await client.get("/_/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in read_text(answer.text)
        for sample in family.samples
    }


async def test_how_calls_end_is_counted(client):
    for path in ("/sell", "/sell", "/fail", "/missing", "/slow", "/stream", "/instead", "/limited"):
        await client.get(path)
    while (await client.get("/limited")).status_code != 503:  # its breaker is told of a failure in a moment
        await client.get("/missing")
    found = await numbers(client)

    def ended(function: str) -> dict[str, float]:
        mine = ("fnrun_invocations_total", f"shop.{function}")
        return {key[2]: value for key, value in found.items() if key[:2] == mine and value}

    assert ended("sell") == {"succeeded": 2}
    assert ended("fail") == {"failed": 1}
    assert set(ended("missing")) == {"succeeded"}, "a Problem below 500 is the caller's"
    assert ended("slow") == {"timeout": 1}
    assert ended("stream") == {"succeeded": 1}
    assert ended("instead") == {"succeeded": 1}
    assert ended("limited")["refused"] == 1
    assert ended("limited")["failed"] >= 1
    assert found["fnrun_fallbacks_total", "shop.instead"] == 1
    assert found["fnrun_limit_refusals_total", "shop.limited", "breaker"] == 1
    assert found["fnrun_breaker_state", "shop.limited", "closed"] == 0
    assert found["fnrun_invocation_duration_seconds_bucket", "shop.slow", "0.025", "http"] == 0
    assert found["fnrun_invocation_duration_seconds_bucket", "shop.slow", "+Inf", "http"] == 1
    assert found["fnrun_invocation_duration_seconds_sum", "shop.slow", "http"] >= 0.05
    assert found["fnrun_invocations_in_flight", "shop.slow", "http"] == 0


async def test_a_call_at_work_is_in_flight_and_one_that_is_left_is_cancelled(client):
    call = asyncio.create_task(client.get("/hang"))
    for _ in range(1000):
        await asyncio.sleep(0)
        if counts.read_here().sums:
            break
    found = await numbers(client)
    assert found["fnrun_invocations_in_flight", "shop.hang", "http"] == 1
    call.cancel()
    await asyncio.wait([call])
    found = await numbers(client)
    assert found["fnrun_invocations_total", "shop.hang", "cancelled", "http"] == 1


async def test_what_the_store_knows_is_told(client, desk):
    for _ in range(3):
        submit(desk, "shop.sell")
    Worker(desk, "shop.sell").fail(Worker(desk, "shop.sell").claim())
    found = await numbers(client)
    assert found["fnrun_queue_runs", "default", "ready"] == 2
    assert found["fnrun_runs", "shop.sell", "open"] == 2
    assert found["fnrun_runs", "shop.sell", "dead"] == 1
    assert found[("fnrun_workers",)] == 1
    assert found[("fnrun_store_up",)] == 1
    assert found[("fnrun_store_latency_seconds",)] > 0


async def test_while_the_store_is_away_the_rest_is_told(root, gone, log):
    async with client_of(load_project(root), desk=gone, open_locally=True) as client:
        await client.get("/sell")
        found = await numbers(client)
    assert found[("fnrun_store_up",)] == 0
    assert found["fnrun_invocations_total", "shop.sell", "succeeded", "http"] == 1
    assert ("fnrun_workers",) not in found


async def test_a_store_that_never_answers_holds_up_no_scrape(root, frozen, log):
    async with client_of(load_project(root), desk=frozen, open_locally=True) as client, asyncio.timeout(15):
        assert (await numbers(client))[("fnrun_store_up",)] == 0


async def test_openmetrics_is_written_for_who_asks_for_it(client):
    await client.get("/sell")
    answer = await client.get("/_/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    names = {family.name for family in read_openmetrics(answer.text)}
    assert "fnrun_invocations" in names


async def test_names_are_as_prometheus_wants_them(client):
    """What `promtool check metrics` looks at: units, _total on counters alone, help of each, no colons, snake case."""
    for family in read_text((await client.get("/_/metrics")).text):
        assert re.fullmatch(r"fnrun_[a-z]+(_[a-z]+)*", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|count|sum|bucket)$", family.name)
        assert (family.type == "counter") == any(
            s.name.endswith("_total") for s in family.samples
        ) or not family.samples


async def test_a_key_is_needed_that_may_read(root, desk, log):
    async with client_of(load_project(root), desk=desk) as client:
        assert (await client.get("/_/metrics")).status_code == 401
        assert (await client.get("/_/stats")).status_code == 401


async def test_stats_tell_of_the_last_minutes_what_was_brought_to_the_store(client, desk):
    for path in ("/sell", "/sell", "/sell", "/fail", "/slow"):
        await client.get(path)
    counts.blocked("shop.slow")
    flush = Flush(desk.store, desk.ledger)
    flush.start()
    flush.end()
    submit(desk, "shop.sell")
    found = (await client.get("/_/stats")).json()
    by_name = {one["function"]: one for one in found["functions"]}
    assert (by_name["shop.sell"]["calls"], by_name["shop.sell"]["succeeded"]) == (3, 3)
    assert (by_name["shop.sell"]["failure_rate"], by_name["shop.sell"]["open"]) == (0, 1)
    assert by_name["shop.sell"]["p95_ms"] > 0
    assert by_name["shop.fail"]["failure_rate"] == 1
    assert (by_name["shop.slow"]["timeout"], by_name["shop.slow"]["blocked"]) == (1, 1)
    assert by_name["shop.slow"]["mean_ms"] >= 50
    assert {point["trigger"] for point in found["points"] if point["function"] == "shop.sell"} == {"http"}
    one = (await client.get("/_/stats", params={"minutes": 5, "function": "shop.fail"})).json()
    assert [one["function"] for one in one["functions"]] == ["shop.fail"]
    assert (await client.get("/_/stats", params={"minutes": 0})).status_code == 422


async def test_of_many_functions_a_day_is_told_by_whole_hours(client, desk):
    until = int(desk.ledger.now() // 60)
    ago = {0: 7, 61: 5, 700: 3, 1439: 2, 1441: 1}
    names = [f"of.many_{number}" for number in range(600)]
    for at in range(0, 600, 100):
        some = names[at : at + 100]
        rows = [(until - one, name, "http", "succeeded", count) for name in some for one, count in ago.items()]
        await desk.ask(record(desk.ledger, rows))
        await desk.ask(desk.ledger.accept([Submission(id=name, function=name) for name in some]))
    told = (await client.get("/_/stats", params={"minutes": 1440})).json()
    assert told["step"] == 120
    assert len(told["points"]) <= 600 * 4
    assert {one["calls"] for one in told["functions"]} == {17}, "what was counted before the day began is not in it"
    assert next(one["calls"] for one in told["points"] if one["function"] == "of.many_7") == 2
    one = (await client.get("/_/stats", params={"minutes": 1440, "function": "of.many_7"})).json()
    assert (one["step"], one["functions"][0]["calls"]) == (12, 17)


async def test_what_is_counted_waits_while_the_store_is_away(gone, log):
    counts.of("a", "http").done(1.5, "failed")
    flush = Flush(gone.store, gone.ledger)
    flush.start()
    flush.end()
    assert {(function, what): number for (_, function, _, what), number in flush._waiting.items()} == {
        ("a", "failed"): 1,
        ("a", "ms"): 1500,
        ("a", "b10"): 1,
    }


def test_a_quantile_is_about_right():
    buckets = [0] * (len(BOUNDS) + 1)
    assert quantile_ms(buckets, 0.95) is None
    buckets[3] = 100
    assert 5 < quantile_ms(buckets, 0.95) <= 10
    buckets[-1] = 100
    assert quantile_ms(buckets, 0.95) == BOUNDS[-1] * 1000
