from datetime import UTC, datetime, timedelta, timezone

import pytest

from runtime import Breaker, Retry, at, cron, fn, http, interval, queue
from runtime.base.durations import Rate
from runtime.base.errors import DeclarationError
from runtime.declare.policies import Policy
from runtime.declare.triggers import At, Cron, Http, Interval, Queue, declaration_of


def declared(*decorators):
    def function(): ...

    for decorator in reversed(decorators):
        assert decorator(function) is function
    return declaration_of(function)


def test_a_decorated_function_is_called_as_before():
    @http.get("/double")
    @queue()
    @fn(timeout=3)
    def double(n):
        return 2 * n

    assert double(4) == 8


def test_triggers_stand_in_the_order_they_are_read():
    found = declared(http.get("/a"), queue("x"), fn(timeout=1), interval("5m"), cron("@daily"), http.post("/b"))
    assert [str(trigger) for trigger in found.triggers] == [
        "GET /a",
        'queue "x"',
        "every 300 s",
        'cron "0 0 * * *"',
        "POST /b",
    ]


def test_each_trigger_knows_the_line_of_its_decorator():
    @http.get
    @http("/x")
    @http.post(
        "/y",
        status=201,
    )
    @queue()
    @cron("@daily")
    @interval("5m")
    @at("2030-01-01T00:00Z")
    @fn(timeout=1)
    def function(): ...

    found = declaration_of(function)
    first = function.__code__.co_firstlineno
    assert [t.line - first for t in found.triggers] == [0, 1, 2, 6, 7, 8, 9]
    assert found.policy_line == first + 10


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_each_method_has_a_decorator_with_and_without_a_path(method):
    decorator = getattr(http, method)
    routes = declared(decorator, decorator(), decorator("/x"), decorator("/y", status=202)).triggers
    assert {route.methods for route in routes} == {(method.upper(),)}
    assert [(route.path, route.status) for route in routes] == [(None, None), (None, None), ("/x", None), ("/y", 202)]


def test_a_route_of_several_methods():
    (route,) = declared(http("/x", methods=["get", "Post"], auth="public", timeout="1m", max_body="5MB")).triggers
    assert route == Http(
        line=route.line,
        methods=("GET", "POST"),
        path="/x",
        auth="public",
        timeout_seconds=60,
        max_body_bytes=5_000_000,
    )


def test_a_route_without_options_leaves_all_to_the_settings():
    (route,) = declared(http()).triggers
    assert route == Http(line=route.line, methods=("GET",))


def test_a_schedule_takes_what_holds_for_its_ticks():
    options = {
        "payload": {"n": 1},
        "name": "nightly",
        "missed": "all",
        "overlap": 2,
        "jitter": "30s",
        "window": "2h",
        "timeout": "1m",
    }
    for trigger in declared(
        cron("@daily", tz="Europe/Paris", **options), interval("5m", **options), at("2030-01-01T00:00Z", **options)
    ).triggers:
        assert (trigger.payload, trigger.name, trigger.missed, trigger.overlap) == ({"n": 1}, "nightly", "all", 2)
        assert (trigger.jitter_seconds, trigger.window_seconds, trigger.timeout_seconds) == (30, 7200, 60)


def test_a_schedule_without_options_leaves_all_to_the_settings():
    daily, often = declared(cron("@daily"), interval(90)).triggers
    assert daily == Cron(line=daily.line, rule="0 0 * * *")
    assert often == Interval(line=often.line, every_seconds=90)


def test_two_schedules_do_not_share_a_payload():
    one, other = declared(interval(90), interval(90)).triggers
    assert one.payload is not other.payload


@pytest.mark.parametrize(
    "when",
    ["2030-01-01T02:00:00+02:00", "2030-01-01T00:00Z", datetime(2030, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))],
)
def test_a_date_is_kept_in_utc(when):
    (trigger,) = declared(at(when)).triggers
    assert trigger == At(line=trigger.line, when=datetime(2030, 1, 1, tzinfo=UTC))
    assert str(trigger) == "at 2030-01-01T00:00:00+00:00"


def test_a_queue_has_a_name_and_may_have_a_timeout():
    one, other = declared(queue(), queue("orders", timeout="5m")).triggers
    assert one == Queue(line=one.line, name="default")
    assert other == Queue(line=other.line, name="orders", timeout_seconds=300)


def test_fn_reads_every_option():
    def key_of(customer):
        return customer

    found = declared(
        fn(
            timeout="30s",
            retries=4,
            concurrency=8,
            key="customer",
            rate="100/m",
            idempotent=key_of,
            isolation="process",
            memory="256MB",
            breaker=Breaker(3, reset="1m"),
            fallback={"ok": False},
            on_failure="alerts.send",
            max_age="1h",
            env={"CURRENCY": "EUR"},
            secrets=["STRIPE_KEY", "STRIPE_KEY"],
        )
    ).policy
    assert (found.timeout_seconds, found.concurrency, found.key, found.rate) == (30, 8, "customer", Rate(100, 60, 100))
    assert repr(found.retries) == "Retry(4, wait=1s..300s)"
    assert repr(found.breaker) == "Breaker(3, reset=60s)"
    assert (found.idempotent, found.isolation, found.memory_bytes) == (key_of, "process", 256_000_000)
    assert (found.fallback, found.on_failure, found.max_age_seconds) == ({"ok": False}, "alerts.send", 3600)
    assert (found.env, found.secrets) == ({"CURRENCY": "EUR"}, ("STRIPE_KEY",))
    nothing = Policy()
    assert [name for name in Policy.__struct_fields__ if getattr(found, name) == getattr(nothing, name)] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": {"A": 1}}, "variables by name, both text"),
        ({"env": ["A=1"]}, "variables by name, both text"),
        ({"secrets": "STRIPE_KEY"}, "the names of secrets, never their values"),
        ({"secrets": ["sk_live/hunter2"]}, "one of these is no name of a secret"),
        ({"secrets": ["FNRUN_STORE__URL"]}, "one of these is no name of a secret"),
    ],
)
def test_an_environment_and_secrets_are_checked(options, message):
    with pytest.raises(DeclarationError, match=message) as caught:
        fn(**options)
    assert "hunter2" not in str(caught.value)


def test_a_function_without_decorators_has_no_declaration():
    assert declaration_of(test_fn_reads_every_option) is None
    assert declaration_of(http) is None


@pytest.mark.parametrize(
    ("decorate", "message"),
    [
        (lambda: http("/x", methods=[]), "@http(methods=[]): a list of methods"),
        (lambda: http("/x", methods="GET"), '@http(methods=\'GET\'): a list of methods, ["GET", "POST"] for instance'),
        (lambda: http("/x", methods=["GET", "FETCH"]), "@http: unknown method 'FETCH'; there are GET, HEAD, "),
        (lambda: http.get("x"), "@http: path 'x' does not start with \"/\""),
        (lambda: http.get(7), "@http: path 7 does not start with"),
        (lambda: http.get("/x", status=199), "@http(status=199): the status of a success, 200 to 299"),
        (lambda: http.get("/x", status="201"), "@http(status='201'): the status of a success"),
        (lambda: http.get("/x", auth="none"), "@http(auth='none'): one of public, key, signed"),
        (lambda: http.get("/x", timeout="soon"), "@http(timeout='soon'): 'soon' is not a duration above zero; write"),
        (lambda: http.get("/x", max_body="big"), "@http(max_body='big'): 'big' is not a size; write \"1MB\""),
        (lambda: cron("@daily", timezone="UTC"), "@cron: unknown option 'timezone'; did you mean"),
        (lambda: interval(60, zzz=1), "@interval: unknown option 'zzz'; there are payload, name, missed, "),
        (lambda: cron("@daily", missed="never"), "@cron(missed='never'): one of skip, latest, all"),
        (lambda: cron("@daily", payload=[1]), "@cron(payload=[1]): arguments by name, {"),
        (lambda: cron("@daily", name=5), "@cron: Expected `str | null`, got `int` - at `$.name`"),
        (lambda: cron("@daily", overlap="2"), '@cron(overlap=\'2\'): "skip", "queue", "allow" or a number'),
        (lambda: cron("@daily", overlap=True), '@cron(overlap=True): "skip", "queue", "allow" or a number'),
        (lambda: cron("@daily", overlap=1.5), '@cron(overlap=1.5): "skip", "queue", "allow" or a number'),
        (lambda: cron(len), '@cron does not say when; write @cron("0 6 * * *") for instance'),
        (lambda: interval(len), '@interval does not say when; write @interval("15m") for instance'),
        (lambda: at(len), '@at does not say when; write @at("2030-01-01T02:00:00+00:00") for instance'),
        (lambda: cron("@daily", overlap=0), '@cron(overlap=0): "skip", "queue", "allow" or a number of at least 1'),
        (lambda: cron("@daily", jitter="x"), "@cron(jitter='x'): 'x' is not a duration above zero"),
        (lambda: cron("@daily", window=-1), "@cron(window=-1): -1 is not a duration above zero"),
        (lambda: cron("@daily", timeout=0), "@cron(timeout=0): 0 is not a duration above zero"),
        (lambda: at("tomorrow"), "@at('tomorrow'): a date with an offset, \"2030-01-01T02:00:00+00:00\""),
        (lambda: at("9999-12-31T23:59:59.999999Z"), "@at('9999-12-31T23:59:59.999999Z'): a year from 1970 to 9998"),
        (lambda: at(datetime.min.replace(tzinfo=UTC)), "@at(datetime.datetime(1, 1, 1, 0, 0, tzinfo=datetime.timezone"),
        (lambda: at("2030-01-01"), "@at('2030-01-01'): a date with an offset, \"2030-01-01T02:00:00+00:00\""),
        (lambda: at(datetime(2030, 1, 1)), "@at(datetime.datetime(2030, 1, 1, 0, 0)): a date with an offset"),  # noqa: DTZ001
        (lambda: at(1893456000), "@at(1893456000): a date with an offset"),
        (lambda: queue(""), "@queue(''): a name without spaces, @queue(\"orders\") for instance"),
        (lambda: queue("a\n"), "@queue('a\\n'): a name without spaces"),
        (lambda: queue(lambda: 0), "@queue(<function"),
        (lambda: queue("x", timeout="x"), "@queue(timeout='x'): 'x' is not a duration above zero"),
        (lambda: fn(zzz=1), "@fn: unknown option 'zzz'; there are timeout, retries, "),
        (lambda: fn(timeout=1)(Policy), "@fn decorates a function; <class 'runtime.declare.policies.Policy'> is a "),
        (lambda: queue()(print), "@queue decorates a function; <built-in function print> is a builtin_function_or_"),
        (lambda: http.get(print), "@http decorates a function; <built-in function print> is a"),
    ],
)
def test_a_decorator_refuses_what_cannot_hold(decorate, message):
    with pytest.raises(DeclarationError) as caught:
        decorate()
    assert str(caught.value).startswith(message)


def test_a_retry_record_is_taken_as_it_is():
    retry = Retry(2, wait="1s")
    assert declared(fn(retries=retry)).policy.retries is retry
