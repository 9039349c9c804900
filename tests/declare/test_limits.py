"""concurrency=, key=, rate=, breaker= and fallback= at load: what they bound, and what is refused with its fix."""

import pytest

from runtime.base.durations import Rate
from runtime.base.sections import FunctionSettings
from runtime.invoke.limits.rules import Ask, Limits, limit_said, limits_of

SAYS_NOTHING = "@fn(timeout=1)\ndef handler(): ..."


@pytest.mark.parametrize(
    ("said", "limits"),
    [
        ("concurrency=8", Limits(concurrency=8)),
        ('key="x"', Limits(keyed=True)),
        ("key=lambda x: x", Limits(keyed=True)),
        ('rate="100/m"', Limits(every_ms=600, burst=100)),
        ('rate="10/s burst 2", key="x"', Limits(every_ms=100, burst=2, keyed=True)),
        ('breaker=Breaker(3, reset="1m")', Limits(failures=3, reset_ms=60_000)),
    ],
)
def test_what_was_said_bounds_a_function(load_files, said, limits):
    assert limits_of(load_files({"a.py": f"@fn({said})\ndef handler(x: int): ..."}).get("a")) == limits


def test_a_function_that_says_nothing_has_no_limits(load_files):
    assert limits_of(load_files({"a.py": SAYS_NOTHING}).get("a")) is None


def test_the_settings_bound_a_function_in_place_of_the_code(load_files):
    setting = FunctionSettings(concurrency=3, rate="5/s")
    source = '@fn(concurrency=9, key="x")\ndef handler(x: int): ...'
    function = load_files({"a.py": source}, {"a": setting}).get("a")
    assert (function.policy.concurrency, function.policy.rate) == (3, Rate(5, 1, 5))
    assert limits_of(function) == Limits(concurrency=3, every_ms=200, burst=5, keyed=True)


def test_a_rate_in_the_settings_that_is_none_is_named(failure_of):
    message = failure_of("@http.get  # <-\ndef handler(): ...", FunctionSettings(rate="often")).message
    assert message.startswith("functions.toml, [functions.\"broken\"]: @fn(rate='often'): 'often' is not a rate; ")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('@fn(key="custmer")  # <-\ndef f(customer: str): ...', '@fn(key="custmer"): custmer is no parameter of the '
         'function; did you mean "customer"?'),
        ('@fn(key="ctx")  # <-\ndef f(ctx: Context): ...', '@fn(key="ctx"): ctx is no argument; there are: none'),
        ("@fn(key=lambda y: y)  # <-\ndef f(x: int): ...", "@fn(key=...): y is no parameter of the function; there"),
        ("@fn(key=lambda *x: x)  # <-\ndef f(x: int): ...", "@fn(key=...): arguments come by name, and *x does not"),
        ("@fn(fallback=lambda y: y)  # <-\ndef f(x: int): ...", "@fn(fallback=...): y is no parameter of the function; "
         "there are: x, error"),
        ("def two():\n    yield 1\n@fn(fallback=two)  # <-\ndef f(x: int): ...", "@fn(fallback=...): a function that "
         "yields gives no one value; return it"),
        ("async def k(x):\n    ...\n@fn(key=k)  # <-\ndef f(x: int): ...", "@fn(key=...): a plain function makes the "),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_a_load_error(failure_of, source, message):
    assert failure_of(source).message.startswith(message)


def test_a_fallback_may_take_the_error_what_is_injected_and_what_it_has_a_default_for(load_files):
    source = "@fn(fallback=lambda error, x, ctx, more=1: x)\ndef handler(x: int, ctx: Context): ..."
    assert load_files({"a.py": source}).failures == ()


@pytest.mark.parametrize(
    ("limits", "verdict", "said"),
    [
        (Limits(concurrency=8), "wait", "concurrency=8"),
        (Limits(concurrency=8, keyed=True, every_ms=1), "wait", "concurrency=8 of its key"),
        (Limits(every_ms=600, burst=100), "late", 'rate="100/m"'),
        (Limits(every_ms=600, burst=10), "late", 'rate="100/m burst 10"'),
        (Limits(every_ms=86_400_000 / 7, burst=7), "late", 'rate="7/d"'),
        (Limits(every_ms=100, burst=10), "late", 'rate="10/s"'),
        (Limits(concurrency=2), "late", "concurrency=2"),
    ],
)
def test_a_limit_is_named_as_its_author_may_have_written_it(limits, verdict, said):
    assert limit_said(limits, verdict) == said


def test_an_ask_is_of_one_holder():
    assert Ask(function="f", limits=Limits(), holder="a") != Ask(function="f", limits=Limits(), holder="b")
