from contextlib import suppress
from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.base.durations import Rate, Seconds, Size, parse_duration, parse_rate, parse_size

UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("2d", 172800),
        ("1w", 604800),
        ("1.5h", 5400),
        (" 5m ", 300),
        ("1m1m", 120),
        ("45", 45),
        ("0.5", 0.5),
        (45, 45),
        (0.5, 0.5),
    ],
)
def test_a_duration_is_text_or_a_number_of_seconds(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from(list(UNITS))), min_size=1, max_size=5))
def test_the_parts_of_a_duration_add_up(parts):
    text = "".join(f"{number}{unit}" for number, unit in parts)
    total = sum(number * UNITS[unit] for number, unit in parts)
    if total:
        assert parse_duration(text) == pytest.approx(total)


@pytest.mark.parametrize(
    "text",
    [
        0, -1, float("nan"), float("inf"), 10**400, True, False, None, [], "", "abc", "0s", "-5s", "-5", "nan", "inf",
        "1h 30m", "30 s", "5min", "1H", "h", "9" * 400 + "s",
    ],
)  # fmt: skip
def test_what_is_no_duration_names_what_to_write(text):
    with pytest.raises(ValueError, match="is not a duration above zero") as caught:
        parse_duration(text)
    assert str(caught.value) == (
        f'{text!r} is not a duration above zero; write "30s", "1h30m", "500ms" or a number of seconds'
    )


@given(st.text() | st.floats() | st.integers())
def test_whatever_is_given_is_a_finite_duration_or_a_value_error(given_value):
    with suppress(ValueError):
        seconds = parse_duration(given_value)
        assert isfinite(seconds)
        assert seconds > 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (30, "30s"),
        (90, "90s"),
        (300, "5m"),
        (5400, "90m"),
        (7200, "2h"),
        (172800, "2d"),
        (1.5, "1.5s"),
        (0.25, "250ms"),
        (0.0005, "0.5ms"),
        (1234567.5, "1234567.5s"),
    ],
)
def test_a_duration_is_shown_as_people_write_it(seconds, text):
    assert str(Seconds(seconds)) == text


@given(st.floats(1e-6, 3e9) | st.integers(1, 10**9))
def test_a_shown_duration_reads_as_itself(seconds):
    read = Seconds.parse(str(Seconds(seconds)))
    assert isinstance(read, Seconds)
    assert read == pytest.approx(seconds, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1MB", 1_000_000),
        ("1MiB", 1_048_576),
        ("16kB", 16_000),
        ("16KB", 16_000),
        ("1.5GB", 1_500_000_000),
        ("2GiB", 2_147_483_648),
        ("512 KiB", 524_288),
        ("7B", 7),
        ("7", 7),
        (7, 7),
    ],
)
def test_a_size_is_text_or_a_number_of_bytes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", [0, -1, True, None, "", "0", "0.5B", "-1MB", "1 mb", "1TB", "MB", "9" * 400])
def test_what_is_no_size_names_what_to_write(text):
    with pytest.raises(ValueError, match="is not a size") as caught:
        parse_size(text)
    assert str(caught.value) == f'{text!r} is not a size; write "1MB", "256MiB" or a number of bytes'


@pytest.mark.parametrize(
    ("size", "text"), [(1, "1B"), (999, "999B"), (16_000, "16kB"), (5_000_000, "5MB"), (10**9, "1GB"), (1024, "1024B")]
)
def test_a_size_is_shown_as_people_write_it(size, text):
    assert str(Size(size)) == text


@given(st.integers(1, 2**53))
def test_a_shown_size_reads_as_itself(size):
    read = Size.parse(str(Size(size)))
    assert isinstance(read, Size)
    assert read == size


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/s", (10, 1, 10)),
        ("100/m", (100, 60, 100)),
        (" 1000/h ", (1000, 3600, 1000)),
        ("5/d", (5, 86400, 5)),
        ("100/m burst 10", (100, 60, 10)),
        ("1/s burst  250", (1, 1, 250)),
    ],
)
def test_a_rate_is_a_count_in_a_window_and_a_burst(text, rate):
    assert parse_rate(text) == Rate(*rate)


@pytest.mark.parametrize(
    "text",
    ["", "0/s", "-1/s", "10", "10/w", "1.5/s", "10 / s", "/s", 10, None, "9/s burst 0", "9/s burst", "9/s 3"],
)
def test_what_is_no_rate_names_what_to_write(text):
    with pytest.raises(ValueError, match="is not a rate") as caught:
        parse_rate(text)
    assert str(caught.value) == f'{text!r} is not a rate; write "10/s", "100/m", "1000/h", "5/d" or "100/m burst 10"'
