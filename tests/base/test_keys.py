import hmac

import msgspec
import pytest

from runtime.base.errors import FnrunError, StartError
from runtime.base.keys import Key, check_scope, expiry_text, id_in, make_key, read_old_file, set_old_file_aside


def test_a_token_is_of_its_key_alone():
    key, token = make_key("ci", ("invoke:orders.*", "read"))
    other, _ = make_key("ci", ("read",))
    assert (key.name, key.scopes, key.expires_at, key.expired) == ("ci", ("invoke:orders.*", "read"), None, False)
    assert token.startswith(f"fnrun_{key.id}_")
    assert id_in(token) == key.id
    assert key.is_of(token)
    assert not other.is_of(token)


def test_a_token_changed_in_any_one_character_is_of_none():
    key, token = make_key("ci", ("admin",))
    for place, character in enumerate(token):
        changed = "A" if character != "A" else "B"
        assert not key.is_of(token[:place] + changed + token[place + 1 :])
    assert not key.is_of(token[:-1])
    assert not key.is_of(token + "A")


def test_a_token_is_compared_in_constant_time_by_its_hash(monkeypatch):
    key, token = make_key("ci", ("admin",))
    compared, compare = [], hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append((one, other)) or compare(one, other))
    assert not key.is_of(token[:-1])
    assert key.is_of(token)
    assert len(compared) == 2
    assert {len(one) for pair in compared for one in pair} == {len(key.hash)}, "whatever the length of the token"


@pytest.mark.parametrize("token", ["", "fnrun", "fnrun_"])
def test_what_is_no_token_has_no_id(token):
    assert id_in(token) == ""


def test_the_token_is_not_in_what_is_kept():
    key, token = make_key("ci", ("admin",))
    assert token.split("_", 2)[2] not in msgspec.json.encode(key).decode()


def test_a_key_ends_when_its_time_is_over():
    assert make_key("old", ("admin",), -1)[0].expired
    assert not make_key("new", ("admin",), 3600)[0].expired


def test_the_end_of_a_key_is_said_for_people():
    assert expiry_text(None) == "never"
    assert expiry_text(4102444800) == "2100-01-01 00:00 UTC"
    assert expiry_text(0) == "expired 1970-01-01 00:00 UTC"


@pytest.mark.parametrize(
    ("scopes", "action", "function", "allowed"),
    [
        (("admin",), "admin", "", True),
        (("admin",), "read", "", True),
        (("admin",), "invoke", "orders.create", True),
        (("read",), "read", "", True),
        (("read",), "admin", "", False),
        (("read",), "invoke", "orders.create", False),
        (("invoke",), "invoke", "orders.create", True),
        (("invoke",), "read", "", False),
        (("invoke:orders.create",), "invoke", "orders.create", True),
        (("invoke:orders.create",), "invoke", "orders.createx", False),
        (("invoke:orders.*",), "invoke", "orders.create", True),
        (("invoke:orders.*",), "invoke", "orders", False),
        (("invoke:Orders.*",), "invoke", "orders.create", False),
        (("invoke:a", "invoke:b", "read"), "invoke", "b", True),
        ((), "read", "", False),
    ],
)
def test_what_a_key_allows(scopes, action, function, allowed):
    key = Key(id="1", name="ci", hash="", scopes=scopes, created_at=0)
    assert key.allows(action, function) is allowed


@pytest.mark.parametrize("scope", ["admin", "read", "invoke", "invoke:orders.create", "invoke:*"])
def test_a_scope_that_is_one(scope):
    assert check_scope(scope) == scope


@pytest.mark.parametrize("scope", ["", "write", "Admin", "invoke:", "read:orders", "admin:*", ":x"])
def test_an_unknown_scope_names_those_there_are(scope):
    with pytest.raises(FnrunError) as caught:
        make_key("ci", ("read", scope))
    assert str(caught.value) == (f'unknown scope "{scope}"; write admin, read, invoke, or invoke:<function or pattern>')


# --- the file of older versions ----------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    (tmp_path / ".fnrun").mkdir()
    return tmp_path / ".fnrun" / "keys.json"


def test_a_file_of_an_older_version_is_read_and_set_aside(tmp_path, stored):
    key, _ = make_key("ci", ("read",))
    assert read_old_file(tmp_path) is None
    stored.write_bytes(msgspec.json.encode([key]))
    found = read_old_file(tmp_path)
    assert found is not None
    assert found[1] == [key]
    set_old_file_aside(tmp_path)
    assert read_old_file(tmp_path) is None
    assert stored.with_name("keys.json.taken").exists()


@pytest.mark.parametrize("content", [b"[{", b"", b'[{"id": 1}]', b'{"id": "1"}', b'[{"id": "\xff"}]'])
def test_a_damaged_file_says_what_to_do(tmp_path, stored, content):
    stored.write_bytes(content)
    with pytest.raises(StartError, match=r"keys.json is damaged \(.*\); restore it, or remove it to begin anew$"):
        read_old_file(tmp_path)
    assert stored.read_bytes() == content


def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path, stored):
    stored.mkdir()
    with pytest.raises(StartError, match=r"keys.json cannot be read: Is a directory; make it a file that this user"):
        read_old_file(tmp_path)
