import pytest

from runtime.base.errors import DeclarationError
from runtime.declare.timing.rules import check_interval, check_rule, check_zone


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        ("0 6 * * mon-fri", "0 6 * * mon-fri"),
        ("*/5 0-6,22 1 JAN,feb 7", "*/5 0-6,22 1 JAN,feb 7"),
        ("30 0 6 * * *", "30 0 6 * * *"),
        ("0 0 29 2 *", "0 0 29 2 *"),
        ("0 0 31 2 mon", "0 0 31 2 mon"),  # day of month OR day of week, as cron does
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        (" 0  6 * * *\n", "0 6 * * *"),
        (" @Daily", "0 0 * * *"),
    ],
)
def test_a_rule_is_kept_in_plain_fields(rule, fields):
    assert check_rule(rule) == fields


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("61 * * * *", "bad minute '61' (from 0 to 59)"),
        ("* 24 * * *", "bad hour '24' (from 0 to 23)"),
        ("0 0 31 2 *", "no month 2 has a day 31"),
        ("* * * * 8", "bad day-of-week '8' (from 0 to 7, both Sunday, or sun to sat)"),
        ("*/0 * * * *", "bad minute '*/0' (from 0 to 59)"),
        ("0 6 * * mon-fri 30", 'bad month; the second stands first, write "30 0 6 * * mon-fri"'),
        ("0 6 * * * 30", 'bad day-of-week; the second stands first, write "30 0 6 * * *"'),
        ("0 0 31 2,4 *", "no month 2,4 has a day 31"),
        ("60 0 0 * * *", "bad second '60' (from 0 to 59)"),
        ("0 0 L-3 * *", "bad day-of-month 'L-3' (from 1 to 31, L or LW)"),
        ("0 0 * foo *", "bad month 'foo' (from 1 to 12, or jan to dec)"),
        ("0 0 1 1 " + "9" * 5000, "a number that is too long"),
        ("", "0 field(s)"),
        ("* * * *", "4 field(s)"),
        ("0 0 0 1 1 * 2030", "7 field(s)"),
        (None, "1 field(s)"),
    ],
)
def test_a_bad_rule_names_the_field_and_their_order(rule, fault):
    with pytest.raises(DeclarationError) as caught:
        check_rule(rule)
    assert str(caught.value) == (
        f"@cron({rule!r}): {fault}; five fields: minute hour day month weekday, or six with the second first"
    )


def test_a_rule_that_never_fires_is_refused():
    with pytest.raises(DeclarationError, match=r"@cron\('0 0 \*/31 \* 1#5'\): no date ever fits this rule"):
        check_rule("0 0 */31 * 1#5")  # a first of the month that is a fifth Monday


def test_an_unknown_alias_names_those_there_are():
    with pytest.raises(DeclarationError, match=r"@cron\('@foo'\): no such alias; there are @hourly, .*, @annually$"):
        check_rule("@foo")


def test_an_interval_written_as_an_alias_is_told_what_it_is():
    with pytest.raises(DeclarationError, match=r'; write @interval\("5m"\)$'):
        check_rule("@every 5m")


@pytest.mark.parametrize("name", ["UTC", "Europe/Paris", "America/Argentina/Buenos_Aires"])
def test_a_zone_has_an_iana_name(name):
    assert check_zone(name) == name


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "Europe", "x" * 300, "\0", 5, "localtime"]
)
def test_an_unknown_zone_is_refused(name):
    with pytest.raises(
        DeclarationError, match=r'^unknown time zone .*; write an IANA name, "Europe/Paris" for instance'
    ):
        check_zone(name)


@pytest.mark.parametrize(("every", "seconds"), [("15m", 900), (1, 1), ("1s", 1), ("366d", 31622400), (1.5, 1.5)])
def test_an_interval_is_a_duration(every, seconds):
    assert check_interval(every) == seconds


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf"), "abc", "", None, True, "-5s"])
def test_an_interval_that_is_no_duration_is_refused(every):
    with pytest.raises(DeclarationError) as caught:
        check_interval(every)
    assert str(caught.value).startswith(f"@interval(every={every!r}): {every!r} is not a duration above zero; write ")


@pytest.mark.parametrize("every", [1e9, 1e8, "367d", 0.5, "999ms"])
def test_an_interval_out_of_range_is_refused(every):
    with pytest.raises(DeclarationError) as caught:
        check_interval(every)
    assert str(caught.value) == f"@interval({every!r}): from 1 second to 366 days"
