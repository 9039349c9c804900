import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.base.errors import SettingsError
from runtime.base.secrets.sealing import Key, Keyring, Unopened, keyring_of, new_key

texts = st.text(st.characters(), max_size=200)


def keyring(*texts):
    return Keyring(tuple(Key.parse(text) for text in texts))


@given(texts, texts)
def test_what_is_sealed_opens_again_under_its_name_and_no_other(value, other):
    ring = keyring(KEY)
    sealed = ring.seal("STRIPE_KEY", value)
    assert re.fullmatch(r"enc:v1:[0-9a-f]{8}:[A-Za-z0-9_-]+", sealed)
    assert ring.open("STRIPE_KEY", sealed) == value
    if other != "STRIPE_KEY":
        with pytest.raises(Unopened, match="another name"):
            ring.open(other, sealed)


KEY = new_key()


SIGNS = string.ascii_letters + string.digits + "-_:"


@given(st.integers(0, 10_000), st.integers(1, len(SIGNS) - 1))
def test_no_sign_of_a_sealed_value_can_be_changed(place, offset):
    ring = keyring(KEY)
    sealed = ring.seal("A", "a value")
    place %= len(sealed)
    sign = SIGNS[(SIGNS.index(sealed[place]) + offset) % len(SIGNS)]
    with pytest.raises(Unopened):
        ring.open("A", sealed[:place] + sign + sealed[place + 1 :])


def test_a_value_cut_short_does_not_open():
    ring = keyring(KEY)
    sealed = ring.seal("A", "a value")
    for length in range(len("enc:"), len(sealed)):
        with pytest.raises(Unopened):
            ring.open("A", sealed[:length])


def test_a_setting_has_one_name_in_a_variable_and_in_the_file():
    ring = keyring(KEY)
    assert ring.open("store.url", ring.seal("FNRUN_STORE__URL", "x")) == "x"


def test_the_first_key_encrypts_and_the_others_open():
    old, new = new_key(), new_key()
    sealed = keyring(old).seal("A", "x")
    both = keyring(new, old)
    assert both.open("A", sealed) == "x"
    assert keyring(new).open("A", both.seal("A", "y")) == "y"
    with pytest.raises(Unopened, match=f"with the key {Key.parse(old).id}, which is not among") as caught:
        keyring(new).open("A", sealed)
    assert old not in str(caught.value)


def test_without_a_key_nothing_opens():
    sealed = keyring(KEY).seal("A", "x")
    with pytest.raises(Unopened, match="there is no key: it is expected in FNRUN_SECRET_KEY or the file of"):
        Keyring().open("A", sealed)
    with pytest.raises(Unopened, match="fnrun secrets keygen"):
        Keyring().seal("A", "x")


def test_keys_come_from_a_variable_or_from_a_file(tmp_path):
    one, two = new_key(), new_key()
    assert keyring_of({}, tmp_path) == Keyring()
    assert keyring_of({"FNRUN_SECRET_KEY": f"{one}, {two}"}, tmp_path) == keyring(one, two)
    (tmp_path / "keys").write_text(f"# of this year\n{one}\n\n{two}\n")
    assert keyring_of({"FNRUN_SECRET_KEY_FILE": "keys"}, tmp_path) == keyring(one, two)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"FNRUN_SECRET_KEY": "hunter2hunter2"}, "FNRUN_SECRET_KEY is no key; `fnrun secrets keygen`"),
        ({"FNRUN_SECRET_KEY": f"{KEY},hunter2hunter2"}, "FNRUN_SECRET_KEY: one of them is no key"),
        ({"FNRUN_SECRET_KEY": KEY[:-2]}, "FNRUN_SECRET_KEY is no key"),
        ({"FNRUN_SECRET_KEY_FILE": "nowhere"}, r"FNRUN_SECRET_KEY_FILE \(nowhere\) cannot be read: No such file"),
        ({"FNRUN_SECRET_KEY_FILE": "empty"}, r"FNRUN_SECRET_KEY_FILE \(empty\) has no key in it"),
        ({"FNRUN_SECRET_KEY_FILE": "binary"}, r"\(binary\) cannot be read: it is not text"),
        ({"FNRUN_SECRET_KEY_FILE": "x", "FNRUN_SECRET_KEY": "y"}, "both set; take one away"),
    ],
)
def test_what_is_wrong_with_keys_is_said_without_them(environ, message, tmp_path):
    (tmp_path / "empty").write_text("# soon\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=message) as caught:
        keyring_of(environ, tmp_path)
    assert "hunter2" not in str(caught.value)


def test_a_key_is_not_in_its_repr():
    assert KEY.removeprefix("fnrunkey_") not in repr(keyring(KEY))
    assert repr(Key.parse(KEY).raw) not in repr(keyring(KEY))
