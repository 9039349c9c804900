"""What rules may say, and what they find."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime.alerts.rules import Facts, Found, measure, rules_of
from runtime.base.errors import SettingsError
from runtime.base.settings import load_settings
from runtime.cli import main
from runtime.ledger.minutes import Row
from runtime.ledger.views import QueueView
from tests.alerts.conditions import rule

NOW = 60_000.0
MINUTE = 1000


def queue(name: str, ready: int, age: float) -> QueueView:
    return QueueView(name=name, ready=ready, later=9, running=9, unknown=0, limited=0, paused=False, age_seconds=age)


FACTS = Facts(
    now=NOW,
    functions=frozenset({"orders.create", "orders.sweep", "mails.send"}),
    rows=[
        Row(MINUTE - 5, "orders.create", "http", "succeeded", 24),
        Row(MINUTE, "orders.create", "queue", "succeeded", 6),
        Row(MINUTE, "orders.create", "http", "failed", 8),
        Row(MINUTE, "orders.create", "http", "timeout", 2),
        Row(MINUTE, "orders.create", "http", "retried", 3),
        Row(MINUTE, "orders.create", "http", "cancelled", 90),
        Row(MINUTE, "orders.create", "http", "ms", 20_000),
        Row(MINUTE - 6, "orders.create", "http", "failed", 1000),
        Row(MINUTE, "orders.sweep", "", "blocked", 2),
        Row(MINUTE, "orders.sweep", "", "missed", 1),
        Row(MINUTE, "orders.sweep", "cron", "failed", 2),
    ],
    dead={300.0: {"mails.send": 3}},
    queues=[queue("default", 5, 7.5), queue("mails", 0, 0)],
    workers=2,
    schedulers=1,
    lost=[("w1@host", NOW - 100), ("w2@host", NOW - 900)],
)


@pytest.mark.parametrize(
    ("when", "pattern", "found"),
    [
        ("failure_rate > 5%", "orders.create", {"orders.create": 0.25}),
        ("failures > 5", "orders.create", {"orders.create": 10}),
        ("timeouts > 5", "orders.*", {"orders.create": 2, "orders.sweep": 0}),
        ("retries > 5", "orders.create", {"orders.create": 3}),
        ("calls < 1", "*", {"mails.send": 0, "orders.create": 40, "orders.sweep": 2}),
        ("mean_duration > 2s", "orders.create", {"orders.create": 0.5}),
        ("loop_blocked > 0", "*.sweep", {"orders.sweep": 2}),
        ("missed_ticks > 0", "*.sweep", {"orders.sweep": 1}),
        ("dead_letters > 0", "*", {"mails.send": 3, "orders.create": 0, "orders.sweep": 0}),
        ("failure_rate > 5%", "orders.sweep", {"orders.sweep": None}),
        ("backlog > 3", "*", {"default": 5, "mails": 0}),
        ("backlog_age > 1m", "default", {"default": 7.5}),
        ("backlog_age > 1m", "never-seen", {"never-seen": 0}),
        ("workers < 1", "*", {"": 2}),
        ("schedulers < 1", "*", {"": 1}),
        ("lost_workers > 0", "*", {"": 1}),
    ],
)
def test_what_a_rule_finds(when, pattern, found):
    """Windows of five minutes, whole ones; what was cancelled or refused is no call that failed."""
    measured = measure(rule(when, pattern=pattern), FACTS)
    assert {name: one.value for name, one in measured.items()} == found


def test_a_lost_worker_is_named():
    assert measure(rule("lost_workers > 0"), FACTS) == {"": Found(1, "w1@host")}


def settings_of(folder: Path, text: str):
    (folder / "functions.toml").write_text(text)
    return load_settings(folder, environ={}).settings


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ('when = "workers < 2"', 15),
        ('when = "schedulers < 1"', 15),
        ('when = "workers < 2"\nfor = 0', 0),
        ('when = "workers < 2"\nfor = "1m"', 60),
        ('when = "lost_workers > 0"', 0),
    ],
)
def test_processes_that_start_are_not_missing(tmp_path, lines, seconds):
    """Else each start of a system would be an alarm: who looks is there before the workers are."""
    (made,) = rules_of(settings_of(tmp_path, f"[alerts.x]\n{lines}\n")).values()
    assert made.for_seconds == seconds


def test_a_table_becomes_a_rule(tmp_path):
    """Durations, shares, patterns; who is told where the table says nothing."""
    (name, made), *others = rules_of(
        settings_of(
            tmp_path,
            """
            [alerting]
            webhook = "https://hooks.example.com/x"
            [alerts.errors]
            when = "failure_rate >= 5%"
            function = "orders.*"
            window = "10m"
            for = "1m"
            clear = "2%"
            clear_for = 0
            repeat = 0
            run = "ops.page"
            [alerts.off]
            when = "workers < 1"
            enabled = false
            """,
        )
    ).items()
    assert others == []
    assert (name, made.pattern, made.window_seconds, made.for_seconds, made.clear_at) == (
        "errors", "orders.*", 600, 60, 0.02,
    )  # fmt: skip
    assert (made.clear_seconds, made.repeat_seconds) == (0, 0)
    assert made.channels.names == ("webhook", "run")


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (
            'when = "failurerate > 5%"',
            r'alerts."x".when: there is no measure "failurerate"; did you mean "failure_rate"',
        ),
        ('when = "failures = 5"', "write a measure, one of > >= < <= and a value"),
        ('when = "failure_rate > 120%"', "no share of the calls"),
        ('when = "failures > many"', "no number of failures"),
        ('when = "backlog_age > 5 minutes"', "write a measure"),
        ('when = "backlog_age > 5x"', "not a duration"),
        ('when = "workers < 1"\nfunction = "a"', r'alerts."x".function: workers is of no function'),
        ('when = "failures > 1"\nqueue = "a"', r'alerts."x".queue: failures is of no queue'),
        ('when = "failures > 1"\nwindow = "30s"', "not between 1m and 1d"),
        ('when = "failures > 1"\nclear = "5"', r'alerts."x".clear: 5 is above what "failures > 1" fires at'),
        ('when = "workers < 2"\nclear = "1"', "is below what"),
        ('when = "failures > 1"\nclear = "5%"', "no number"),
        ('when = "failures > 1"\nwebhook = "hooks.example.com"', r'alerts."x".webhook: it is no address'),
        ('when = "failures > 1"\nsecrets = ["whsec_short"]', r'alerts."x".secrets: a signing secret is'),
        ('when = "failures > 1"\ncommand = [""]', "names no program"),
        ('when = "failures > 1"\nfor = "2d"', r'alerts."x".for: 2d is more than 1d'),
        ('when = "failures > 1"\nmail = "ops"', 'unknown setting "alerts."x".mail"'),
        ("", "missing required field `when`"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(tmp_path, lines, fault):
    with pytest.raises(SettingsError) as refused:
        settings_of(tmp_path, f"[alerts.x]\n{lines}")
    assert fault in str(refused.value)


def test_addresses_and_secrets_are_masked(tmp_path):
    (tmp_path / "functions.toml").write_text(
        '[alerting]\nwebhook = "https://hooks.example.com/token"\n'
        '[alerts.x]\nwhen = "workers < 1"\nwebhook = "https://hooks.example.com/other"\n'
    )
    shown = "\n".join(one.value for one in load_settings(tmp_path, environ={}).explain())
    assert "hooks.example.com" not in shown


def test_check_names_a_function_that_is_not_there(write_project):
    toml = '[alerts.x]\nwhen = "workers < 1"\nrun = "ops.paeg"\n'
    root = write_project(
        **{"functions.toml": toml, "functions/ops.py": "from runtime import fn\n@fn()\ndef page(): ...\n"}
    )
    result = CliRunner().invoke(main, ["--dir", str(root), "check"])
    assert result.exit_code == 1
    assert 'functions.toml: alerts."x".run: no function "ops.paeg"; did you mean "ops.page"?' in result.stderr
    assert "1 problem(s)" in result.stderr
