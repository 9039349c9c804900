import base64
import secrets as random

import pytest

from runtime.base.durations import Seconds, Size
from runtime.base.errors import SettingsError
from runtime.base.sections import FunctionSettings, Settings
from runtime.base.settings import Sourced, load_settings


@pytest.fixture
def settings_from(tmp_path):
    """`settings_from(text of functions.toml, environment, command line)`."""

    def settings_from(text="", environ=None, overrides=None):
        (tmp_path / "functions.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_settings(tmp_path, overrides or {}, environ or {})

    return settings_from


@pytest.fixture
def fault_of(settings_from):
    def fault_of(text="", environ=None, overrides=None):
        with pytest.raises(SettingsError) as caught:
            settings_from(text, environ, overrides)
        return str(caught.value)

    return fault_of


# --- values ------------------------------------------------------------------------------------------------------


def test_without_a_file_everything_is_as_the_documentation_says(tmp_path):
    loaded = load_settings(tmp_path, environ={})
    assert loaded.settings == Settings()
    assert loaded.sources == {}
    http, serve, log = loaded.settings.http, loaded.settings.serve, loaded.settings.log
    assert (http.bind, http.auth, str(http.max_body), str(http.timeout)) == ("127.0.0.1:8000", "key", "1MB", "30s")
    assert (serve.threads, serve.drain) == (40, 25)
    assert (log.format, log.level, log.requests) == ("auto", "info", "problems")


def test_the_environment_of_the_process_is_read(tmp_path, monkeypatch):
    assert load_settings(tmp_path).settings.serve.threads == 40
    monkeypatch.setenv("FNRUN_SERVE__THREADS", "3")
    assert load_settings(tmp_path).settings.serve.threads == 3


def test_the_file_sets_values(settings_from):
    found = settings_from("""
        [http]
        bind = "0.0.0.0:80"
        auth = "public"
        max_body = "5MB"
        timeout = "1m30s"
        [serve]
        threads = 8
        drain = 2.5
    """).settings
    assert (found.http.bind, found.http.auth, found.serve.threads) == ("0.0.0.0:80", "public", 8)
    assert (found.http.max_body, found.http.timeout, found.serve.drain) == (5_000_000, 90, 2.5)
    assert isinstance(found.http.max_body, Size)
    assert isinstance(found.http.timeout, Seconds)


def test_the_command_line_wins_over_the_environment_over_the_file(settings_from):
    loaded = settings_from(
        '[http]\nbind = "file"\nauth = "public"\ntimeout = 1\n[log]\nlevel = "debug"',
        {"FNRUN_HTTP__BIND": "environment", "FNRUN_HTTP__AUTH": "key", "FNRUN_SERVE__THREADS": "7"},
        {"http__bind": "command line"},
    )
    found = loaded.settings
    assert (found.http.bind, found.http.auth, found.http.timeout) == ("command line", "key", 1)
    assert (found.serve.threads, found.log.level) == (7, "debug")
    assert loaded.sources == {
        "http.bind": "command line",
        "http.auth": "FNRUN_HTTP__AUTH",
        "http.timeout": "functions.toml",
        "serve.threads": "FNRUN_SERVE__THREADS",
        "log.level": "functions.toml",
    }


def test_other_variables_are_let_be(settings_from):
    environ = {"FNRUN_URL": "x", "FNRUN": "y", "HTTP__BIND": "z", "PATH": "/bin"}
    assert settings_from("", environ).settings == Settings()


def test_functions_are_overridden_by_name(settings_from):
    found = settings_from("""
        [functions."orders.create"]
        enabled = false
        timeout = "5s"
        auth = "public"
        schedule = "0 6 * * *"
        queue = "slow"
        env = { REGION = "eu" }
        [functions.sum]
    """).settings.functions
    assert found["orders.create"] == FunctionSettings(
        enabled=False, timeout=Seconds(5), auth="public", schedule="0 6 * * *", queue="slow", env={"REGION": "eu"}
    )
    assert found["sum"] == FunctionSettings()


def test_a_byte_order_mark_is_skipped(settings_from):
    assert settings_from(b'\xef\xbb\xbf[http]\nbind = "x"').settings.http.bind == "x"


def test_settings_cannot_be_changed(settings_from):
    with pytest.raises(AttributeError, match="immutable"):
        settings_from().settings.http.bind = "x"


# --- faults ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[htp]", 'functions.toml: unknown setting "htp"; did you mean "http"?'),
        ("[zzz]", 'functions.toml: unknown setting "zzz"; there are: http, ops, cors, serve, store, queue, schedule, '),
        ("[http]\nbnd = 1", 'functions.toml: unknown setting "http.bnd"; did you mean "bind"?'),
        ("[http]\nzzz = 1", 'functions.toml: unknown setting "http.zzz"; there are: bind, auth, max_body, timeout'),
        (
            '[functions."a.b"]\ntimout = 1',
            'functions.toml: unknown setting "functions."a.b".timout"; did you mean "timeout"?',
        ),
        ("http = 3", "functions.toml: http: a table is expected here, write [http]"),
        ("[[http]]", "functions.toml: http: a table is expected here, write [http]"),
        ("functions = 3", "functions.toml: functions: a table is expected here, write [functions]"),
        ("[functions]\na = 1", 'functions.toml: functions."a": Expected `object`, got `int`'),
        ("[http]\nbind = 80", "functions.toml: http.bind: Expected `str`, got `int`"),
        ('[http]\nauth = "signd"', "functions.toml: http.auth: Invalid enum value 'signd'"),
        (
            '[signing]\nsecrets = ["whsec_"]',
            "functions.toml: signing.secrets: number 1: a signing secret is",
        ),
        (
            '[functions."a"]\nsigning = ["c2hvcnQ="]',
            'functions.toml: functions."a".signing: number 1: a signing secret is whsec_ and 24 to 64 bytes in base64',
        ),
        ("[http]\ntimeout = 0", 'functions.toml: http.timeout: 0 is not a duration above zero; write "30s", '),
        ("[http]\ntimeout = [1]", "functions.toml: http.timeout: [1] is not a duration above zero"),
        ('[http]\nmax_body = "x"', 'functions.toml: http.max_body: \'x\' is not a size; write "1MB", "256MiB"'),
        ('[cors]\norigins = ["https://a.example/"]', "functions.toml: cors.origins[0]: Expected `str` matching regex"),
        ('[cors]\norigins = "*"', "functions.toml: cors.origins: Expected `array`, got `str`"),
        (
            '[serve]\nonly = ["wrker"]',
            'functions.toml: serve.only[0]: there is no role "wrker"; did you mean "worker"?',
        ),
        (
            '[serve]\nonly = ["x"]',
            'functions.toml: serve.only[0]: there is no role "x"; there are: http, scheduler, worker',
        ),
        ("[serve]\nonly = []", "functions.toml: serve.only: Expected `array` of length >= 1"),
        ("[serve]\nonly = [1]", 'functions.toml: serve.only[0]: there is no role "1"'),
        ('[store]\nurl = "localhost"', "functions.toml: store.url: 'localhost' is not the address of a store; write"),
        (
            '[store]\nurl = "redis://:s3cret@h:x"',
            "functions.toml: store.url: 'redis://********@h:x': the host or the port",
        ),
        ('[store]\nnamespace = "a:b"', "functions.toml: store.namespace: Expected `str` matching regex"),
        ("[queue]\nqueues = []", "functions.toml: queue.queues: Expected `array` of length >= 1"),
        ('[queue]\nqueues = ["a b"]', "functions.toml: queue.queues[0]: Expected `str` matching regex"),
        ("[queue]\nbeat = 5", "functions.toml: queue.beat: 5s is not less than half of queue.lease (10s); a worker"),
        ("[queue]\nlease = 4", "functions.toml: queue.beat: 2s is not less than half of queue.lease (4s); a worker"),
        ("[serve]\nthreads = 0", "functions.toml: serve.threads: Expected `int` >= 1"),
        (
            '[functions."a.b"]\ntimeout = "soon"',
            "functions.toml: functions.\"a.b\".timeout: 'soon' is not a duration above zero",
        ),
        ('[functions."a.b"]\nenabled = 3', 'functions.toml: functions."a.b".enabled: Expected `bool`, got `int`'),
        ('[functions."a.b"]\nenv = { A = 1 }', 'functions.toml: functions."a.b".env[...]: Expected `str`, got `int`'),
        ("[http", "functions.toml is not valid TOML: Expected ']' at the end of a table declaration"),
        (b"\xff", "functions.toml is not valid TOML: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_fault_in_the_file_names_its_path_and_the_fix(fault_of, text, message):
    assert fault_of(text).startswith(message)


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    (tmp_path / "functions.toml").mkdir()
    with pytest.raises(SettingsError, match=r"^functions.toml cannot be read: Is a directory$"):
        load_settings(tmp_path, environ={})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FNRUN_HTP__BIND", "x", 'FNRUN_HTP__BIND: unknown setting "htp"; did you mean "http"?'),
        ("FNRUN_HTTP__BND", "x", 'FNRUN_HTTP__BND: unknown setting "http.bnd"; did you mean "bind"?'),
        ("FNRUN_HTTP__BIND__X", "x", 'FNRUN_HTTP__BIND__X: unknown setting "http.bind__x"; did you mean "bind"?'),
        ("FNRUN_SERVE__THREADS", "many", "FNRUN_SERVE__THREADS: serve.threads: Expected `int`, got `str`"),
        ("FNRUN_LOG__LEVEL", "loud", "FNRUN_LOG__LEVEL: log.level: Invalid enum value 'loud'"),
        ("FNRUN_HTTP__TIMEOUT", "", "FNRUN_HTTP__TIMEOUT: http.timeout: '' is not a duration above zero"),
        (
            "FNRUN_FUNCTIONS__SUM",
            "x",
            'FNRUN_FUNCTIONS__SUM: functions are written in functions.toml, under [functions."name"]',
        ),
    ],
)
def test_a_fault_in_the_environment_names_the_variable(fault_of, name, value, message):
    assert fault_of("", {name: value}).startswith(message)


def test_a_fault_on_the_command_line_says_so(fault_of):
    message = fault_of('[http]\nauth = "public"', {}, {"http__auth": "none"})
    assert message == "command line: http.auth: Invalid enum value 'none'; there are: public, key, signed"


def test_a_word_that_is_none_of_those_is_told_which_there_are(fault_of):
    words = "skip, latest, all"
    message = fault_of('[schedules."x.y"]\nfunction = "f"\nmissed = "never"')
    assert message == f"functions.toml: schedules.\"x.y\".missed: Invalid enum value 'never'; there are: {words}"
    assert fault_of("[log]\nlevel = 'loud'").endswith("'loud'; there are: debug, info, warning, error")


# --- schedules ---------------------------------------------------------------------------------------------------


def test_schedules_have_defaults_that_the_file_and_the_environment_change(settings_from):
    found = settings_from().settings.schedule
    assert (found.timezone, found.missed, found.overlap.value) == ("UTC", "latest", "skip")
    assert (found.jitter, found.window, found.deployment) == (0, 3600, 0)
    text = '[schedule]\ntimezone = "Europe/Paris"\noverlap = 3\njitter = "30s"\nmissed = "all"'
    found = settings_from(text, {"FNRUN_SCHEDULE__DEPLOYMENT": "7", "FNRUN_SCHEDULE__JITTER": "0"}).settings.schedule
    assert (found.timezone, found.missed, found.overlap.value) == ("Europe/Paris", "all", 3)
    assert (found.jitter, found.deployment) == (0, 7)
    assert settings_from("", {"FNRUN_SCHEDULE__OVERLAP": "2"}).settings.schedule.overlap.value == 2


def test_a_schedule_of_the_file_is_kept_as_it_is_written(settings_from):
    loaded = settings_from("""
        [schedules.nightly]
        function = "orders.sweep"
        cron = "0 2 * * *"
        tz = "Europe/Paris"
        overlap = "queue"
        jitter = "1m"
        timeout = 90
        [schedules.nightly.payload]
        api_key = "s3cret"
        days = 3
        [schedules."a.b:c"]
        function = "orders.sweep"
        at = 2030-01-01T02:00:00+02:00
    """)
    nightly, once = loaded.settings.schedules["nightly"], loaded.settings.schedules["a.b:c"]
    assert (nightly.function, nightly.cron, nightly.tz) == ("orders.sweep", "0 2 * * *", "Europe/Paris")
    assert (nightly.overlap.value, nightly.jitter, nightly.timeout, nightly.missed) == ("queue", 60, 90, None)
    assert nightly.payload == {"api_key": "s3cret", "days": 3}
    assert once.at.isoformat() == "2030-01-01T02:00:00+02:00"
    shown = [one for one in loaded.explain() if one.path.startswith("schedules.nightly.")]
    assert Sourced("schedules.nightly.payload.api_key", "********", "functions.toml") in shown
    assert Sourced("schedules.nightly.jitter", "1m", "functions.toml") in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[schedule]\ntimezone = "Mars"', "functions.toml: schedule.timezone: unknown time zone 'Mars'; write an IANA"),
        ("[schedule]\noverlap = 0", 'functions.toml: schedule.overlap: 0: write "skip", "queue", "allow" or a number'),
        ("[schedule]\noverlap = true", "functions.toml: schedule.overlap: True: write"),
        ('[schedule]\noverlap = "never"', "functions.toml: schedule.overlap: 'never': write"),
        ('[schedule]\nmissed = "none"', "functions.toml: schedule.missed: Invalid enum value 'none'"),
        ("[schedule]\njitter = -1", "functions.toml: schedule.jitter: -1 is not a duration above zero"),
        ("[schedule]\nwindow = 0", "functions.toml: schedule.window: 0 is not a duration above zero"),
        ("[schedule]\ndeployment = -1", "functions.toml: schedule.deployment: Expected `int` >= 0"),
        ('[schedule]\nzone = "UTC"', 'functions.toml: unknown setting "schedule.zone"'),
        ("[schedules.a]", 'functions.toml: schedules."a": Object missing required field `function`'),
        ('[schedules.a]\ncorn = ""', 'functions.toml: unknown setting "schedules."a".corn"; did you mean "cron"?'),
        ("[schedules]\na = 1", 'functions.toml: schedules."a": Expected `object`, got `int`'),
        (
            '[schedules."a b"]\nfunction = "x"',
            'functions.toml: schedules."a b": an id is 1 to 100 letters, digits and any of _ . : -; choose another',
        ),
    ],
)
def test_a_fault_of_a_schedule_names_its_path(fault_of, text, message):
    assert fault_of(text).startswith(message)


def test_schedules_are_not_written_in_the_environment(fault_of):
    assert fault_of("", {"FNRUN_SCHEDULES__A": "x"}) == (
        'FNRUN_SCHEDULES__A: schedules are written in functions.toml, under [schedules."name"]'
    )


# --- what `fnrun config --why` prints ----------------------------------------------------------------------------


def test_every_value_is_shown_with_its_source(settings_from):
    loaded = settings_from('[http]\nbind = "x"', {"FNRUN_LOG__LEVEL": "error"}, {"serve__drain": "1m"})
    assert list(loaded.explain()) == [
        Sourced("http.bind", '"x"', "functions.toml"),
        Sourced("http.auth", '"key"', "default"),
        Sourced("http.max_body", "1MB", "default"),
        Sourced("http.timeout", "30s", "default"),
        Sourced("http.workers", "1", "default"),
        Sourced("http.certfile", '""', "default"),
        Sourced("http.keyfile", '""', "default"),
        Sourced("http.http2", "true", "default"),
        Sourced("http.http3", "false", "default"),
        Sourced("http.max_connections", "10000", "default"),
        Sourced("http.max_in_flight", "0", "default"),
        Sourced("http.shed", "true", "default"),
        Sourced("http.max_headers", "16kB", "default"),
        Sourced("http.keep_alive", "75s", "default"),
        Sourced("http.limit_wait", "10s", "default"),
        Sourced("http.lane", '"fast"', "default"),
        Sourced("ops.bind", '""', "default"),
        Sourced("cors.origins", "[]", "default"),
        Sourced("cors.methods", '["*"]', "default"),
        Sourced("cors.headers", '["*"]', "default"),
        Sourced(
            "cors.expose",
            '["X-Run-Id","Retry-After","Location","Preference-Applied","Idempotency-Replayed",'
            '"Fnrun-Fallback","Fnrun-Breaker"]',
            "default",
        ),
        Sourced("cors.credentials", "false", "default"),
        Sourced("cors.max_age", "10m", "default"),
        Sourced("serve.only", '["http","scheduler","worker"]', "default"),
        Sourced("serve.threads", "40", "default"),
        Sourced("serve.drain", "1m", "command line"),
        Sourced("serve.blocked_warn", "1s", "default"),
        Sourced("serve.blocked_limit", "10s", "default"),
        Sourced("store.url", '"embedded"', "default"),
        Sourced("store.namespace", '"fnrun"', "default"),
        Sourced("store.host", '""', "default"),
        Sourced("store.port", "6379", "default"),
        Sourced("store.user", '""', "default"),
        Sourced("store.password", '""', "default"),
        Sourced("store.db", "0", "default"),
        Sourced("store.tls", "false", "default"),
        Sourced("queue.workers", "1", "default"),
        Sourced("queue.concurrency", "100", "default"),
        Sourced("queue.queues", '["*"]', "default"),
        Sourced("queue.max_length", "1000000", "default"),
        Sourced("queue.lease", "10s", "default"),
        Sourced("queue.beat", "2s", "default"),
        Sourced("queue.payload_max", "1MB", "default"),
        Sourced("queue.result_max", "1MB", "default"),
        Sourced("queue.keep", "7d", "default"),
        Sourced("queue.keep_failures", "30d", "default"),
        Sourced("queue.keep_count", "10000", "default"),
        Sourced("queue.celery_prefix", '""', "default"),
        Sourced("schedule.timezone", '"UTC"', "default"),
        Sourced("schedule.missed", '"latest"', "default"),
        Sourced("schedule.overlap", '"skip"', "default"),
        Sourced("schedule.jitter", "0s", "default"),
        Sourced("schedule.window", "1h", "default"),
        Sourced("schedule.deployment", "0", "default"),
        Sourced("background.queue", "1000", "default"),
        Sourced("background.concurrency", "100", "default"),
        Sourced("background.threads", "20", "default"),
        Sourced("background.processes", "2", "default"),
        Sourced("background.keep", "10m", "default"),
        Sourced("background.keep_count", "1000", "default"),
        Sourced("log.format", '"auto"', "default"),
        Sourced("log.level", '"error"', "FNRUN_LOG__LEVEL"),
        Sourced("log.requests", '"problems"', "default"),
        Sourced("log.file", '""', "default"),
        Sourced("log.rotate_size", "50MB", "default"),
        Sourced("log.rotate_every", "1d", "default"),
        Sourced("log.keep", "14d", "default"),
        Sourced("log.keep_files", "30", "default"),
        Sourced("log.run_lines", "1000", "default"),
        Sourced("log.run_bytes", "256kB", "default"),
        Sourced("isolation.processes", "8", "default"),
        Sourced("isolation.max_calls", "100", "default"),
        Sourced("isolation.idle", "1m", "default"),
        Sourced("isolation.env", "[]", "default"),
        Sourced("callbacks.secrets", "[]", "default"),
        Sourced("callbacks.allow", "[]", "default"),
        Sourced("callbacks.allow_private", "false", "default"),
        Sourced("callbacks.timeout", "10s", "default"),
        Sourced("callbacks.attempts", "14", "default"),
        Sourced("callbacks.retry_first", "5s", "default"),
        Sourced("callbacks.retry_longest", "4h", "default"),
        Sourced("traces.enabled", "false", "default"),
        Sourced("signing.secrets", "[]", "default"),
        Sourced("alerting.webhook", '""', "default"),
        Sourced("alerting.secrets", "[]", "default"),
        Sourced("alerting.allow_private", "false", "default"),
        Sourced("alerting.timeout", "10s", "default"),
        Sourced("alerting.most_per_hour", "60", "default"),
    ]


def test_the_secrets_of_callbacks_are_checked_and_never_shown(settings_from, fault_of):
    secrets = [f"whsec_{base64.b64encode(random.token_bytes(size)).decode()}" for size in (24, 64)]
    loaded = settings_from(environ={"FNRUN_CALLBACKS__SECRETS": ", ".join(secrets)})
    assert loaded.settings.callbacks.secrets == tuple(secrets)
    assert not any(secret in str(list(loaded.explain())) for secret in secrets)
    bad = secrets[0][:-6]
    for fault in (fault_of(f'[callbacks]\nsecrets = ["{bad}"]'), fault_of(environ={"FNRUN_CALLBACKS__SECRETS": bad})):
        assert "callbacks.secrets: number 1: a signing secret is whsec_" in fault
        assert bad not in fault


def test_the_secrets_of_a_functions_environment_are_masked(settings_from):
    loaded = settings_from("""
        [functions."orders.create"]
        timeout = "5s"
        [functions."orders.create".env]
        REGION = "eu"
        API_KEY = "s3cret"
        db_password = "s3cret"
        AccessToken = "s3cret"
    """)
    shown = {found.path: found.value for found in loaded.explain() if found.source == "functions.toml"}
    assert shown == {
        "functions.orders.create.timeout": "5s",
        "functions.orders.create.env.REGION": '"eu"',
        "functions.orders.create.env.API_KEY": "********",
        "functions.orders.create.env.db_password": "********",
        "functions.orders.create.env.AccessToken": "********",
    }
    assert "s3cret" not in str(list(loaded.explain()))


def test_a_variable_with_one_underscore_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="FNRUN_HTTP_AUTH: a setting has two underscores, FNRUN_HTTP__AUTH"):
        load_settings(tmp_path, environ={"FNRUN_HTTP_AUTH": "public"})
    assert load_settings(tmp_path, environ={"FNRUN_SERVICE_HOST": "10.0.0.1"}).settings.http.auth == "key"


def test_a_list_in_a_variable_is_separated_by_commas(settings_from):
    loaded = settings_from("", {"FNRUN_CORS__ORIGINS": "https://a.example, http://localhost:5173,"})
    assert loaded.settings.cors.origins == ("https://a.example", "http://localhost:5173")
    loaded = settings_from("", {"FNRUN_QUEUE__QUEUES": "mail, orders"})
    assert loaded.settings.queue.queues == ("mail", "orders")


def test_the_password_of_the_store_is_shown_nowhere(settings_from):
    loaded = settings_from("", {"FNRUN_STORE__URL": "rediss://me:s3cret@db.example:6380/2"})
    shown = {found.path: found.value for found in loaded.explain()}
    assert shown["store.url"] == '"rediss://********@db.example:6380/2"'
    assert loaded.settings.store.url == "rediss://me:s3cret@db.example:6380/2"
    assert "s3cret" not in repr(loaded.settings)
