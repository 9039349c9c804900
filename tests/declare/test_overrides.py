"""[functions."name"] of functions.toml."""

import pytest

from runtime.base.durations import Seconds
from runtime.base.sections import FunctionSettings
from runtime.declare.triggers import Cron, Interval


def test_a_disabled_function_is_named_and_not_loaded(load_files):
    registry = load_files(
        {"a.py": "@http.get\ndef f(): ...\n@http.get\ndef g(): ..."}, {"a.f": FunctionSettings(enabled=False)}
    )
    assert (list(registry.functions), registry.disabled, registry.failures) == (["a.g"], ("a.f",), ())


@pytest.mark.parametrize("disabled", ["a", "b"])
def test_a_disabled_function_leaves_its_route_to_another(load_files, disabled):
    registry = load_files(
        {"a.py": '@http.get("/x")\ndef handler(): ...', "b.py": '@http.get("/x")\ndef handler(): ...'},
        {disabled: FunctionSettings(enabled=False)},
    )
    assert registry.failures == ()
    assert registry.disabled == (disabled,)


def test_a_timeout_overrides_the_function_and_its_triggers(load_files):
    source = '@http.get("/x", timeout=1)\n@queue("x")\n@fn(timeout=2)\ndef handler(): ...'
    function = load_files({"a.py": source}, {"a": FunctionSettings(timeout=Seconds(9))}).get("a")
    assert function.policy.timeout_seconds == 9
    assert [t.timeout_seconds for t in function.triggers] == [None, None]


def test_auth_overrides_every_route(load_files):
    source = '@http.get("/x", auth="public")\n@http.get("/y")\n@queue("x")\ndef handler(): ...'
    function = load_files({"a.py": source}, {"a": FunctionSettings(auth="key")}).get("a")
    assert [getattr(t, "auth", "none") for t in function.triggers] == ["key", "key", "none"]


def test_env_and_queue_override(load_files):
    setting = FunctionSettings(env={"REGION": "eu"}, queue="slow")
    function = load_files({"a.py": '@queue("fast", timeout=3)\ndef handler(): ...'}, {"a": setting}).get("a")
    assert function.env == {"REGION": "eu"}
    assert [(t.name, t.timeout_seconds) for t in function.triggers] == [("slow", 3)]
    assert function.queue == "slow"


def test_the_queue_of_a_function_is_the_setting_s_or_its_first_or_the_default_one(load_files):
    files = {"a.py": "@http.get\ndef handler(): ...", "b.py": '@queue("x")\n@queue("y")\ndef handler(): ...'}
    registry = load_files(files)
    assert (registry.get("a").queue, registry.get("b").queue) == ("default", "x")
    assert load_files(files, {"a": FunctionSettings(queue="slow")}).get("a").queue == "slow"


@pytest.mark.parametrize(
    "declared", ['cron("@daily", payload={"n": 1}, timeout=5)', 'interval("1h", payload={"n": 1}, timeout=5)']
)
def test_a_schedule_becomes_a_cron_rule_or_an_interval_and_keeps_the_rest(load_files, declared):
    for text, kind, rule in (
        ("0 6 * * mon-fri", Cron, 'cron "0 6 * * mon-fri"'),
        ("@weekly", Cron, 'cron "0 0 * * 0"'),
        ("15m", Interval, "every 900 s"),
    ):
        setting = FunctionSettings(schedule=text)
        function = load_files({"a.py": f"@{declared}\ndef handler(n: int): ..."}, {"a": setting}).get("a")
        (trigger,) = function.triggers
        assert type(trigger) is kind
        assert str(trigger) == rule
        assert (trigger.payload, trigger.timeout_seconds, trigger.line) == ({"n": 1}, 5, 6)


def test_a_cron_override_keeps_the_zone(load_files):
    source = '@cron("@daily", tz="Europe/Paris")\ndef handler(): ...'
    function = load_files({"a.py": source}, {"a": FunctionSettings(schedule="0 6 * * *")}).get("a")
    assert [str(t) for t in function.triggers] == ['cron "0 6 * * *" Europe/Paris']


@pytest.mark.parametrize(
    ("source", "setting", "message"),
    [
        (
            "@http.get  # <-\ndef handler(): ...",
            FunctionSettings(schedule="5m"),
            'functions.toml overrides the cron or interval of "broken"; that takes exactly one, and it has 0',
        ),
        (
            "@cron('@daily')  # <-\n@interval('5m')\ndef handler(): ...",
            FunctionSettings(schedule="5m"),
            'functions.toml overrides the cron or interval of "broken"; that takes exactly one, and it has 2',
        ),
        (
            "@queue('a')  # <-\n@queue('b')\ndef handler(): ...",
            FunctionSettings(queue="slow"),
            'functions.toml overrides the queue of "broken"; that takes exactly one, and it has 2',
        ),
        (
            "@http.get  # <-\ndef handler(): ...",
            FunctionSettings(queue="my queue"),
            "functions.toml, [functions.\"broken\"]: @queue('my queue'): a name without spaces",
        ),
        (
            "@cron('@daily')  # <-\ndef handler(): ...",
            FunctionSettings(schedule="61 * * * *"),
            "functions.toml, [functions.\"broken\"]: @cron('61 * * * *'): bad minute '61' (from 0 to 59); five fields",
        ),
        (
            "@cron('@daily')  # <-\ndef handler(): ...",
            FunctionSettings(schedule="soon"),
            "functions.toml, [functions.\"broken\"]: @interval(every='soon'): 'soon' is not a duration above zero",
        ),
        (
            "@http.get  # <-\ndef handler(): ...",
            FunctionSettings(auth="signed"),
            'GET of broken is auth="signed", and there is no secret: set [signing] secrets, or',
        ),
    ],
)
def test_an_override_that_cannot_hold_disables_the_file(failure_of, source, setting, message):
    assert failure_of(source, setting).message.startswith(message)


def test_settings_of_an_unknown_function_are_a_failure(load_files):
    overrides = {"orders.craete": FunctionSettings(), "zzz": FunctionSettings(enabled=False)}
    registry = load_files({"orders.py": "@http.get\ndef create(): ..."}, overrides)
    assert list(registry.functions) == ["orders.create"]
    assert [str(failure) for failure in registry.failures] == [
        'functions.toml: [functions."orders.craete"]: no such function is loaded; did you mean "orders.create"?',
        'functions.toml: [functions."zzz"]: no such function is loaded',
    ]
