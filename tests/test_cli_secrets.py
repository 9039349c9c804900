"""`fnrun secrets`, and what the other commands say of secrets."""

import os
import re
import secrets as random
import stat
import subprocess
import sys

import pytest
from click.testing import CliRunner

from runtime.base.secrets.sealing import Key, Keyring, new_key
from runtime.base.webhooks import secret_of
from runtime.cli import main


@pytest.fixture
def fnrun(tmp_path, monkeypatch):
    """`fnrun("secrets", "keygen", given="on standard input")`: what it printed, or what it said when it failed."""
    monkeypatch.setenv("FNRUN_SECRET_KEY", new_key())

    def fnrun(*words, given=None):
        result = CliRunner().invoke(main, ["--dir", str(tmp_path), *words], input=given)
        return result.stdout if result.exit_code == 0 else result.stderr

    return fnrun


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".secrets"


def test_a_new_key_is_one(fnrun, monkeypatch):
    key, webhook = fnrun("secrets", "keygen").strip(), fnrun("secrets", "keygen", "--webhook").strip()
    assert Key.parse(key).id
    assert len(secret_of(webhook)) == 32
    assert webhook.startswith("whsec_")


def test_what_is_encrypted_is_decrypted_again(fnrun, path):
    value = random.token_hex(8)
    sealed = fnrun("secrets", "encrypt", "STRIPE_KEY", given=f"{value}\n").strip()
    assert not path.exists()
    path.write_text(f"# ours\nPLAIN=as it is\nSTRIPE_KEY={sealed}\n")
    assert fnrun("secrets", "decrypt", "STRIPE_KEY") == f"{value}\n"
    assert fnrun("secrets", "decrypt") == f"PLAIN=as it is\nSTRIPE_KEY={value}\n"


def test_a_value_is_written_into_the_file_in_its_place(fnrun, path):
    path.write_text("# ours\nA=1\nB=2 # two\n")
    assert fnrun("secrets", "encrypt", "A", "--write", given="one") == ""
    assert re.fullmatch(r"# ours\nA=enc:v1:\S+\nB=2 # two\n", path.read_text())
    fnrun("secrets", "encrypt", "store.url", "--write", given="redis://db/1")
    assert re.search(r"\nFNRUN_STORE__URL=enc:v1:\S+\n$", path.read_text())
    fnrun("secrets", "encrypt", "FNRUN_STORE__URL", "--write", given="redis://db/2")
    assert path.read_text().count("FNRUN_STORE__URL") == 1
    path.chmod(0o600)
    assert '"redis://db:6379/2"' not in fnrun("config")
    assert 'store.url = "redis://db/2"' in fnrun("config")


def test_a_new_file_is_its_owners_alone(fnrun, path):
    fnrun("secrets", "encrypt", "A", "--write", given="x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_after_a_rotation_the_old_key_is_of_no_use(fnrun, path, monkeypatch):
    old, new = new_key(), new_key()
    monkeypatch.setenv("FNRUN_SECRET_KEY", old)
    fnrun("secrets", "encrypt", "A", "--write", given="one")
    path.write_text(f"# first\n{path.read_text()}\nB=two\n")
    monkeypatch.setenv("FNRUN_SECRET_KEY", f"{new},{old}")
    fnrun("secrets", "rotate")
    assert re.fullmatch(r"# first\nA=enc:v1:\S+\n\nB=enc:v1:\S+\n", path.read_text())
    monkeypatch.setenv("FNRUN_SECRET_KEY", new)
    assert fnrun("secrets", "decrypt") == "A=one\nB=two\n"
    monkeypatch.setenv("FNRUN_SECRET_KEY", old)
    assert "is encrypted with the key" in fnrun("secrets", "decrypt")


def test_a_rotation_without_a_key_for_all_changes_nothing(fnrun, path, monkeypatch):
    one = Keyring((Key.parse(new_key()),))
    before = f"A=plain\nB={one.seal('B', 'x')}\n"
    path.write_text(before)
    assert ".secrets:2: B is encrypted with the key" in fnrun("secrets", "rotate")
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("words", "given", "message"),
    [
        (("encrypt", "A"), "", "A: there is no value; give it on standard input"),
        (("encrypt", "A"), b"\xff\xfe", "the value is not UTF-8 text"),
        (("encrypt", "a value"), "x", "NAME: letters, digits and _"),
        (("encrypt", "FNRUN_SECRET_KEY"), "x", "is what opens the others"),
        (("encrypt", "functions.a.env.B", "--write"), "x", "stands in functions.toml; leave --write out"),
        (("decrypt", "A"), None, "there is no A in .secrets; there are: B"),
    ],
)
def test_what_cannot_be_is_told(words, given, message, fnrun, path):
    path.write_text("B=1\n")
    assert message in fnrun("secrets", *words, given=given)


def test_without_a_key_the_way_to_one_is_told(fnrun, monkeypatch):
    monkeypatch.delenv("FNRUN_SECRET_KEY")
    for words in (("encrypt", "A"), ("decrypt",), ("rotate",)):
        assert "there is no key: `fnrun secrets keygen` makes one" in fnrun("secrets", *words, given="x")


def test_a_check_names_functions_whose_secrets_are_not_there_and_shows_none(fnrun, tmp_path, path):
    value = random.token_hex(8)
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "pay.py").write_text(
        'from runtime import fn\n\n\n@fn(secrets=["STRIPE_KEYS"])\ndef pay():\n    pass\n'
    )
    (tmp_path / "functions" / "leak.py").write_text(
        "from pathlib import Path\n\nraise ValueError(Path(__file__).parents[1].joinpath('.secrets').read_text())\n"
    )
    path.write_text(f"STRIPE_KEY={value}\n")
    path.chmod(0o644)
    said = fnrun("check")
    assert 'functions/pay.py:4: "pay" names a secret: there is no secret "STRIPE_KEYS"; did you mean' in said
    assert "functions/leak.py:3: ValueError: STRIPE_KEY=****" in said
    assert "warning: .secrets can be read by others on this machine; chmod 600 .secrets" in said
    assert value not in said


@pytest.mark.parametrize("isolation", ["", ", isolation='process'"])
def test_what_a_handler_prints_under_invoke_is_a_line_of_the_log_without_secrets(tmp_path, path, isolation):
    value = random.token_hex(8)
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "pay.py").write_text(
        f"from runtime import Context, fn\n\n\n@fn(secrets=['KEY']{isolation})\ndef pay(ctx: Context):\n"
        "    print('with', ctx.secrets['KEY'])\n    return 1\n"
    )
    path.write_text(f"KEY={value}\n")
    words = [sys.executable, "-P", "-m", "runtime", "--dir", str(tmp_path), "invoke", "pay"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "1\n"  # the result, for programs to read, and nothing else
    assert re.search(r'"event": "with \*+", "run_id": "[0-9a-f]{32}", "function": "pay"', done.stderr)
    assert value not in done.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'secrets = ["DATABASE_URL"]',
            '`secrets` names one: there is no secret "DATABASE_URL"; it is expected as a var',
        ),
        ("secrets = [1]", '`secrets` is a list of names here: secrets = ["DATABASE_URL"]'),
    ],
)
def test_secrets_of_resources_that_cannot_be_had_are_a_load_error(line, message, fnrun, tmp_path):
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "_lifespan.py").write_text(f"{line}\n")
    assert f"functions/_lifespan.py: {message}" in fnrun("check")


def test_it_is_a_command_of_the_shell_and_takes_no_value_from_it(tmp_path):
    words = [sys.executable, "-P", "-m", "runtime", "--dir", str(tmp_path), "secrets", "encrypt", "A", "value"]
    done = subprocess.run(
        words, env={**os.environ, "FNRUN_SECRET_KEY": new_key()}, capture_output=True, text=True, check=False, input="x"
    )
    assert done.returncode == 2
    assert "unexpected extra argument" in done.stderr
