"""Settings and secrets of a project, as its files and variables say them."""

import secrets as random

import pytest

from runtime.base.errors import SettingsError
from runtime.base.secrets.given import NoSecret
from runtime.base.secrets.masking import MASK, mask
from runtime.base.secrets.sealing import Key, Keyring, new_key
from runtime.base.settings import load_settings

KEY = new_key()


def sealed(name, value, key=KEY):
    return Keyring((Key.parse(key),)).seal(name, value)


@pytest.fixture
def project(tmp_path):
    """`project(toml, env=, secrets=, environ=)`: its settings."""

    def project(toml="", *, env=None, secrets=None, environ=None, **options):
        for name, text in (("functions.toml", toml), (".env", env), (".secrets", secrets)):
            if text is not None:
                (tmp_path / name).write_text(text)
                (tmp_path / name).chmod(0o600)
        return load_settings(tmp_path, environ={"FNRUN_SECRET_KEY": KEY} | (environ or {}), **options)

    return project


def sources(loaded):
    return {one.path: (one.value, one.source) for one in loaded.explain()}


def test_the_process_beats_secrets_which_beat_env_which_beats_the_file(project):
    toml = "[queue]\nworkers = 2\nconcurrency = 2\nmax_length = 2\npayload_max = 2\n"
    env = "FNRUN_QUEUE__CONCURRENCY=3\nFNRUN_QUEUE__MAX_LENGTH=3\nFNRUN_QUEUE__PAYLOAD_MAX=3\n"
    loaded = project(
        toml,
        env=env,
        secrets="FNRUN_QUEUE__MAX_LENGTH=4\nFNRUN_QUEUE__PAYLOAD_MAX=4\n",
        environ={"FNRUN_QUEUE__PAYLOAD_MAX": "5"},
    )
    shown = sources(loaded)
    assert shown["queue.workers"] == ("2", "functions.toml")
    assert shown["queue.concurrency"] == ("3", ".env:1")
    assert shown["queue.max_length"] == ("********", ".secrets:1")
    assert loaded.settings.queue.max_length == 4
    assert shown["queue.payload_max"] == ("5B", "FNRUN_QUEUE__PAYLOAD_MAX")


def test_what_is_no_setting_is_for_handlers(project):
    loaded = project(env="FNRUN_LOG__LEVEL=debug\nGREETING=hello\n", secrets="STRIPE=sk_live\n")
    assert loaded.vault.variables == {"GREETING": "hello"}
    assert loaded.vault.get("STRIPE") == "sk_live"


def test_a_secret_is_opened_wherever_it_stands(project):
    loaded = project(
        f'[functions.pay.env]\nTOKEN = "{sealed("functions.pay.env.TOKEN", "from toml")}"\n'
        f'[http]\nbind = "{sealed("FNRUN_HTTP__BIND", "127.0.0.1:81")}"\n'
        f'[cors]\norigins = ["https://a.example", "{sealed("cors.origins", "https://b.example")}"]\n',
        secrets=f"STRIPE={sealed('STRIPE', 'from file')}\nFNRUN_HTTP__CERTFILE={sealed('http.certfile', 'c.pem')}\n",
        environ={"OTHER": sealed("OTHER", "from variable"), "FNRUN_CORS__METHODS": sealed("cors.methods", "GET, PUT")},
    )
    assert loaded.vault.get("STRIPE") == "from file"
    assert loaded.vault.get("OTHER") == "from variable"
    given = loaded.settings
    assert given.functions["pay"].env == {"TOKEN": "from toml"}
    assert (given.http.bind, given.http.certfile) == ("127.0.0.1:81", "c.pem")
    assert given.cors.origins == ("https://a.example", "https://b.example")
    assert given.cors.methods == ("GET", "PUT")
    shown = {path: value for path, (value, _) in sources(loaded).items()}
    hidden = ("functions.pay.env.TOKEN", "http.bind", "cors.origins", "http.certfile", "cors.methods")
    assert [shown[path] for path in hidden] == ["********"] * 5
    assert mask("from toml, from file, from variable") == f"{MASK}, {MASK}, {MASK}"


def test_a_variable_beats_a_file_for_secrets_too(project):
    loaded = project(env="A=1\nB=1\nC=1\n", secrets="A=2\nB=2\n", environ={"A": "3"})
    assert [loaded.vault.get(name) for name in "ABC"] == ["3", "2", "1"]


@pytest.mark.parametrize("place", ["secrets", "variable", "toml"])
@pytest.mark.parametrize(
    ("value", "key", "message"),
    [
        (lambda: sealed("http.bind", "hunter2", new_key()), KEY, "is encrypted with the key [0-9a-f]{8}, which is not"),
        (lambda: sealed("http.bind", "hunter2"), "", "is encrypted, and there is no key: it is expected in FNRUN_SEC"),
        (lambda: sealed("http.auth", "hunter2"), KEY, "was encrypted for another name than .* encrypt it again"),
        (lambda: sealed("http.bind", "hunter2")[:-8], KEY, "was changed since it was encrypted"),
        (lambda: "enc:v9:hunter2", KEY, "is no encrypted value that this version knows"),
    ],
    ids=[
        "another key",
        "no key",
        "another name",
        "cut short",
        "another version",
    ],  # keys differ from process to process
)
def test_a_value_that_does_not_open_is_named_with_its_place(place, value, key, message, project):
    value = value()
    files = {
        "secrets": {"secrets": f"# a\nFNRUN_HTTP__BIND={value}\n"},
        "variable": {"environ": {"FNRUN_HTTP__BIND": value}},
        "toml": {"toml": f'[http]\nbind = "{value}"\n'},
    }[place]
    files["environ"] = files.get("environ", {}) | {"FNRUN_SECRET_KEY": key}
    with pytest.raises(SettingsError, match=message) as caught:
        project(**files)
    where = {"secrets": ".secrets:2", "variable": "FNRUN_HTTP__BIND", "toml": "functions.toml:2"}[place]
    assert str(caught.value).startswith(f"{where}: http.bind ")
    assert "hunter2" not in str(caught.value)
    assert value not in str(caught.value)


def test_a_secret_nobody_names_yet_is_a_warning_if_it_does_not_open(project):
    loaded = project(secrets=f"A={sealed('B', 'x')}\n")
    assert loaded.warnings == [
        ".secrets:1: A was changed since it was encrypted, or was encrypted for another name than A; "
        "encrypt it again: `fnrun secrets encrypt A`"
    ]
    with pytest.raises(SettingsError, match=r"^\.secrets:1: A was changed"):
        loaded.vault.get("A")


def test_a_secret_that_is_not_there_is_named_with_what_comes_near(project):
    vault = project(secrets="STRIPE_KEY=x\n").vault
    with pytest.raises(NoSecret, match='there is no secret "STRIPE_KEYS"; did you mean "STRIPE_KEY"'):
        vault.get("STRIPE_KEYS")
    with pytest.raises(NoSecret, match=r'there is no secret "PAYPAL"; .*`fnrun secrets encrypt PAYPAL --write`'):
        vault.get("PAYPAL")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"secrets": f"FNRUN_SECRET_KEY={KEY}\n"}, r"^\.secrets:1: FNRUN_SECRET_KEY is what opens this file"),
        ({"env": "FNRUN_HTTP_BIND=x\n"}, r"^\.env:1: FNRUN_HTTP_BIND is no setting .*two underscores"),
        ({"env": "FNRUN_HTTP__BNID=x\n"}, r'^\.env:1: unknown setting "http.bnid"; did you mean "bind"'),
        ({"env": "FNRUN_HTTP__WORKERS=none\n"}, r"^\.env:1: http.workers: "),
        ({"env": "FNRUN_FUNCTIONS__A=none\n"}, r"^\.env:1: functions are written in functions.toml"),
    ],
    ids=range(5),
)
def test_what_does_not_belong_there_is_told(files, message, project):
    with pytest.raises(SettingsError, match=message):
        project(**files)


def test_the_key_may_be_named_in_env(project, tmp_path):
    (tmp_path / "key").write_text(KEY)
    loaded = project(
        env="FNRUN_SECRET_KEY_FILE=key\n", secrets=f"A={sealed('A', 'x')}\n", environ={"FNRUN_SECRET_KEY": ""}
    )
    assert loaded.vault.get("A") == "x"


def test_a_file_that_others_may_read_is_a_warning(project, tmp_path):
    project(secrets="A=1\n")
    (tmp_path / ".secrets").chmod(0o644)
    assert load_settings(tmp_path, environ={}).warnings == [
        ".secrets can be read by others on this machine; chmod 600 .secrets"
    ]


def test_a_sealed_process_sees_no_secret(project):
    loaded = project(
        f'[http]\nbind = "{sealed("http.bind", "127.0.0.1:81")}"\nworkers = 2\n'
        f'[store]\nhost = "db"\npassword = "{sealed("store.password", "x")}"\n',
        secrets="A=1\n",
        environ={"FNRUN_SECRET_KEY": "not even looked at", "FNRUN_STORE__URL": "redis://other/1"},
        sealed=True,
    )
    assert (loaded.settings.http.bind, loaded.settings.http.workers) == ("127.0.0.1:8000", 2)
    assert loaded.settings.store.url == "redis://other/1"
    with pytest.raises(NoSecret):
        loaded.vault.get("A")


# --- addresses in parts ------------------------------------------------------------------------------------------


def test_the_stores_address_is_made_of_its_parts(project):
    password = random.token_hex(6) + "/@:?#%"
    loaded = project(
        '[store]\nhost = "db.example"\nuser = "me"\ndb = 3\ntls = true\n',
        secrets=f"FNRUN_STORE__PASSWORD='{password}'\n",
    )
    url = loaded.settings.store.url
    assert url.startswith("rediss://me:")
    assert url.endswith("@db.example:6379/3")
    shown = sources(loaded)
    assert shown["store.url"] == ('"rediss://********@db.example:6379/3"', "functions.toml")
    assert shown["store.password"] == ("********", ".secrets:1")
    assert password not in repr(loaded.settings)
    assert mask(f"{url} {password}") == f"rediss://me:{MASK}@db.example:6379/3 {MASK}"


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('host = "a"\nurl = "redis://b"', "store.host: stands beside store.url of functions.toml; take one away"),
        ("db = 1", "store.db: there is no store.host that it belongs to"),
        ('host = "a"\nport = 0', "store.port: Expected `int` >= 1"),
    ],
)
def test_parts_that_cannot_hold_are_refused(toml, message, project):
    with pytest.raises(SettingsError, match=f"^functions.toml: {message}"):
        project(f"[store]\n{toml}\n")


def test_a_connection_is_a_secret_by_its_name(project):
    password = random.token_hex(8)
    loaded = project(
        '[connections.DATABASE_URL]\ndriver = "postgresql"\nhost = "::1"\nport = 5432\nuser = "me"\n'
        'password_from = "PG"\ndatabase = "shop"\noptions = { sslmode = "require" }\n'
        f'[connections.OTHER]\ndriver = "amqp"\npassword = "{sealed("connections.OTHER.password", "p w")}"\n',
        secrets=f"PG={password}\n",
    )
    assert loaded.vault.get("DATABASE_URL") == f"postgresql://me:{password}@[::1]:5432/shop?sslmode=require"
    assert loaded.vault.get("OTHER") == "amqp://:p%20w@localhost"
    assert password not in str(list(loaded.explain()))
    assert sources(loaded)["connections.OTHER.password"][0] == "********"


def test_a_connection_with_two_passwords_or_none_is_refused(project):
    vault = project(
        '[connections.A]\ndriver = "x"\npassword = "a"\npassword_from = "B"\n'
        '[connections.B]\ndriver = "x"\npassword_from = "C"\n'
    ).vault
    with pytest.raises(SettingsError, match=r'connections\."A": password and password_from'):
        vault.get("A")
    with pytest.raises(NoSecret, match=r'^functions.toml: connections\."B"\.password_from: there is no secret "C"'):
        vault.get("B")


@pytest.mark.parametrize("other", ["A", "B"])
def test_a_connection_whose_password_is_a_connection_is_refused(project, other):
    pairs = (("A", other), ("B", "A"))
    tables = "".join(f'[connections.{name}]\ndriver = "x"\npassword_from = "{of}"\n' for name, of in pairs)
    with pytest.raises(SettingsError, match=rf'connections\."A"\.password_from: "{other}" is a connection'):
        project(tables).vault.get("A")
