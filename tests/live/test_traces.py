"""One trace through all that a call sets off, as a receiver of OTLP sees it: real processes, real spans."""

import httpx
import pytest

from tests.live_servers import Server, until
from tests.observe.receiver import Receiver, Seen

pytestmark = pytest.mark.live

FILES = {
    "functions/shop.py": """
        import os
        from opentelemetry import trace
        from runtime import Context, Problem, Retry, fn, http, interval, queue, submit

        tracer = trace.get_tracer("shop")

        @http.post("/orders/{customer}", auth="public")
        async def create(customer: str, ctx: Context) -> dict[str, str]:
            with tracer.start_as_current_span("look up"):
                run = await submit(pack, customer=customer)
            return {"run": run.id, "traceparent": ctx.traceparent}

        @queue("packing")
        @fn(retries=Retry(attempts=2, wait="10ms"))
        async def pack(customer: str, ctx: Context) -> str:
            if ctx.attempt == 1:
                raise OSError("no paper")
            await submit.many(mail, [{"n": 1}, {"n": 2}])
            return ctx.traceparent

        @queue("mail")
        def mail(n: int) -> int:
            with tracer.start_as_current_span("smtp"):
                return n

        @http.post("/apart", auth="public")
        @fn(isolation="process")
        def apart(ctx: Context) -> dict[str, object]:
            with tracer.start_as_current_span("inside"):
                secrets = [name for name in os.environ if name.startswith("OTEL_")]
                return {"traceparent": ctx.traceparent, "secrets": secrets}

        @http.get("/broken", auth="public")
        def broken() -> None:
            raise ValueError("canary")

        @http.get("/gone", auth="public")
        def gone() -> None:
            raise Problem(404, "no such thing")

        @http.get("/numbers", auth="public")
        async def numbers():
            for n in range(3):
                with tracer.start_as_current_span(f"number {n}"):
                    pass
                yield n

        @interval("1s")
        def tick() -> None: ...
        """
}
CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{CALLER[0]}-{CALLER[1]}-01"


@pytest.fixture(scope="module")
def receiver():
    with Receiver() as found:
        yield found


@pytest.fixture(scope="module")
def server(receiver: Receiver, tmp_path_factory):
    from textwrap import dedent

    root = tmp_path_factory.mktemp("traced")
    (root / "functions").mkdir()
    (root / "functions/shop.py").write_text(dedent(FILES["functions/shop.py"]))
    found = Server(root, "serve", "--bind", "127.0.0.1:0", environ=receiver.environ, roles=None)
    try:
        assert found.url
        yield found
    finally:
        if found.process.poll() is None:
            found.stop()


def seen(receiver: Receiver, name: str, trace_id: str | None = None, count: int = 1) -> list[Seen]:
    def there() -> list[Seen]:
        return [one for one in receiver.named(name) if trace_id is None or one.trace_id == trace_id]

    until(lambda: len(there()) >= count, 30)
    return there()


def test_a_call_its_runs_and_theirs_are_one_trace(server: Server, receiver: Receiver):
    with server.client() as client:
        answer = client.post("/orders/ann", headers={"traceparent": TRACEPARENT})
    trace_id = CALLER[0]
    mails = seen(receiver, "shop.mail", trace_id, 2)
    (call,) = seen(receiver, "POST /orders/{customer}", trace_id)
    (look,) = seen(receiver, "look up", trace_id)
    (sent,) = seen(receiver, "submit shop.pack", trace_id)
    first, second = seen(receiver, "shop.pack", trace_id, 2)
    (many,) = seen(receiver, "submit shop.mail", trace_id)
    smtp = seen(receiver, "smtp", trace_id, 2)
    chain = [(one.kind, one.parent_id) for one in (call, look, sent, first, second, many)]
    assert chain == [
        ("server", CALLER[1]), ("internal", call.span_id), ("producer", look.span_id), ("consumer", sent.span_id),
        ("consumer", sent.span_id), ("producer", second.span_id),
    ]  # fmt: skip
    assert {one.parent_id for one in mails} == {many.span_id}
    assert {one.parent_id for one in smtp} == {one.span_id for one in mails}

    run_id, call_id = answer.json()["run"], answer.headers["x-run-id"]
    assert answer.json()["traceparent"] == f"00-{trace_id}-{call.span_id}-01" == answer.headers["traceparent"]
    assert (call.span_id, first.span_id) == (call_id[16:], run_id[16:])
    assert call.said["http.response.status_code"] == 200
    assert call.said["faas.trigger"] == "http"
    assert call.at["service.name"] == "fnrun"

    assert (first.failed, second.failed) == (True, False)
    assert first.events["exception"]["exception.message"] == "no paper"
    assert first.said["error.type"] == "OSError"
    assert (first.said["fnrun.state"], second.said["fnrun.attempt"]) == ("retrying", 2)
    assert second.links == [first.span_id]
    assert sent.said["messaging.message.id"] == run_id == second.said["faas.invocation_id"]
    assert many.said["messaging.batch.message_count"] == 2


def test_a_call_that_is_answered_later_is_the_parent_of_its_run(server: Server, receiver: Receiver):
    with server.client() as client:
        run_id = client.post("/orders/bob", headers={"prefer": "respond-async"}).json()["id"]
    (run,) = seen(receiver, "shop.create", run_id)
    (call,) = seen(receiver, "POST /orders/{customer}", run_id)
    assert (run.span_id, run.parent_id, call.parent_id) == (run_id[16:], call.span_id, "")
    assert call.said["http.response.status_code"] == 202


def test_spans_of_an_isolated_function_are_in_the_trace_of_its_call(server: Server, receiver: Receiver):
    with server.client() as client:
        answer = client.post("/apart", json={})
    call_id = answer.headers["x-run-id"]
    (inside,) = seen(receiver, "inside", call_id)
    (call,) = seen(receiver, "POST /apart", call_id)
    assert inside.parent_id == call.span_id
    assert answer.json() == {"traceparent": f"00-{call_id}-{call.span_id}-01", "secrets": []}


def test_a_failure_is_told_with_its_error_and_a_refusal_is_none(server: Server, receiver: Receiver):
    with server.client() as client:
        client.get("/broken", headers={"authorization": "Bearer canary-key"}, params={"q": "canary-query"})
        client.get("/gone")
    (broken,) = seen(receiver, "GET /broken")
    (gone,) = seen(receiver, "GET /gone")
    assert (broken.failed, broken.said["http.response.status_code"], broken.said["error.type"]) == (
        True, 500, "ValueError",
    )  # fmt: skip
    assert (gone.failed, gone.said["http.response.status_code"]) == (False, 404)
    assert "canary-" not in repr(broken)


def test_a_span_lasts_as_long_as_its_stream(server: Server, receiver: Receiver):
    with server.client() as client:
        run_id = client.get("/numbers").headers["x-run-id"]
    (call,) = seen(receiver, "GET /numbers", run_id)
    assert {seen(receiver, f"number {n}", run_id)[0].parent_id for n in range(3)} == {call.span_id}


def test_a_tick_begins_a_trace(receiver: Receiver, server: Server):
    tick = seen(receiver, "shop.tick")[0]
    assert (tick.parent_id, tick.said["faas.trigger"]) == ("", "timer")
    assert tick.said["faas.invocation_id"].startswith("tick-")
    assert tick.said["fnrun.schedule"]
    assert tick.at["fnrun.role"] == "worker"


def test_who_is_not_to_be_sampled_is_not(server: Server, receiver: Receiver):
    before = len(receiver.named("submit shop.pack"))
    with server.client() as client:
        quiet = client.post("/orders/eve", headers={"traceparent": TRACEPARENT[:-2] + "00"}).json()["traceparent"]
        client.post("/orders/dan")
    assert quiet.endswith("-00")
    seen(receiver, "submit shop.pack", count=before + 1)
    assert [one for one in receiver.named("POST /orders/{customer}") if quiet[36:52] == one.span_id] == []


def test_what_is_left_is_sent_at_the_end(server: Server, receiver: Receiver):
    with httpx.Client(base_url=server.url) as client:
        run_id = client.get("/gone").headers["x-run-id"]
    assert server.stop() == 0
    assert [one.trace_id for one in receiver.named("GET /gone")].count(run_id) == 1
