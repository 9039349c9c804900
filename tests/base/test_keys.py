import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from runtime.base.errors import FnrunError, StartError
from runtime.base.keys import Key, KeyFile, check_scope


@pytest.fixture
def keys(tmp_path):
    return KeyFile(tmp_path)


def stored(tmp_path):
    return tmp_path / ".fnrun" / "keys.json"


def eventually(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "still not so"
        time.sleep(0.02)  # between two looks, not for the change


# --- one key -----------------------------------------------------------------------------------------------------


def test_a_token_is_taken_for_its_key(keys):
    key, token = keys.create("ci", ("invoke:orders.*", "read"))
    assert keys.verify(token) == key
    assert (key.name, key.scopes, key.expires) == ("ci", ("invoke:orders.*", "read"), "never")
    assert token.startswith(f"fnrun_{key.id}_")


def test_two_keys_of_one_name_differ(keys):
    (one, token), (other, second) = keys.create("ci", ("read",)), keys.create("ci", ("read",))
    assert one.id != other.id
    assert token != second


def test_a_token_changed_in_any_one_character_is_refused(keys):
    _, token = keys.create("ci", ("admin",))
    for place, character in enumerate(token):
        other = "A" if character != "A" else "B"
        assert keys.verify(token[:place] + other + token[place + 1 :]) is None
    assert keys.verify(token[:-1]) is None
    assert keys.verify(token + "A") is None
    assert keys.verify(token) is not None


@pytest.mark.parametrize("token", ["", "fnrun", "fnrun_", "___", "a_b_c", "fnrun_00000000_x", "é_è_ê"])
def test_what_is_no_token_is_refused(keys, token):
    keys.create("ci", ("admin",))
    assert keys.verify(token) is None


def test_the_token_is_not_stored_and_the_file_is_for_its_owner_only(keys, tmp_path):
    _, token = keys.create("ci", ("admin",))
    content = stored(tmp_path).read_text()
    assert token not in content
    assert token.split("_", 2)[2] not in content
    assert stored(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_revoked_key_is_refused(keys):
    key, token = keys.create("ci", ("admin",))
    assert keys.revoke(key.id) == key
    assert keys.verify(token) is None
    assert keys.list() == ()


def test_revoking_an_unknown_key_says_where_to_look(keys):
    with pytest.raises(FnrunError, match=r'^no key has the id "nope"; see `fnrun keys list`'):
        keys.revoke("nope")


def test_a_key_ends_when_its_time_is_over(keys):
    over, token = keys.create("old", ("admin",), lifetime_seconds=-1)
    lasting, other = keys.create("new", ("admin",), lifetime_seconds=3600)
    assert keys.verify(token) is None
    assert keys.verify(other) == lasting
    assert (over.expired, lasting.expired) == (True, False)
    assert keys.list() == (over, lasting)


def test_the_end_of_a_key_is_said_for_people():
    key = Key(id="1", name="ci", hash="", scopes=(), created_at=0, expires_at=4102444800)
    assert key.expires == "2100-01-01 00:00 UTC"
    assert msgspec.structs.replace(key, expires_at=0).expires == "expired 1970-01-01 00:00 UTC"


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
def test_an_unknown_scope_names_those_there_are(keys, scope):
    with pytest.raises(FnrunError) as caught:
        keys.create("ci", ("read", scope))
    assert str(caught.value) == (f'unknown scope "{scope}"; write admin, read, invoke, or invoke:<function or pattern>')
    assert keys.list() == ()


# --- the file ----------------------------------------------------------------------------------------------------


def test_there_are_no_keys_at_first(keys, tmp_path):
    assert keys.list() == ()
    assert keys.verify("fnrun_0_x") is None
    assert not stored(tmp_path).exists()


def test_the_first_key_is_made_once(keys, tmp_path):
    token = keys.create_first()
    assert keys.verify(token).allows("admin")
    assert keys.create_first() is None
    assert KeyFile(tmp_path).create_first() is None


def test_keys_are_listed_oldest_first(keys, tmp_path):
    made = [keys.create(name, ("read",))[0] for name in "cab"]
    assert KeyFile(tmp_path).list() == tuple(made)


def test_a_change_by_another_process_is_seen(keys, tmp_path):
    other = KeyFile(tmp_path)
    assert other.list() == ()
    key, token = keys.create("ci", ("read",))
    eventually(lambda: other.verify(token) == key)
    keys.revoke(key.id)
    eventually(lambda: other.verify(token) is None)


def test_a_removed_file_takes_its_keys_along(keys, tmp_path):
    _, token = keys.create("ci", ("read",))
    stored(tmp_path).unlink()
    eventually(lambda: keys.verify(token) is None)
    assert keys.list() == ()


@pytest.mark.parametrize("content", [b"[{", b"", b'[{"id": 1}]', b'{"id": "1"}', b'[{"id": "\xff"}]'])
def test_a_damaged_file_says_what_to_do(tmp_path, content):
    stored(tmp_path).parent.mkdir()
    stored(tmp_path).write_bytes(content)
    for use in (KeyFile.list, KeyFile.create_first, lambda keys: keys.verify("fnrun_0_x")):
        with pytest.raises(StartError, match=r"keys.json is damaged \(.*\); restore it, or remove it to begin anew$"):
            use(KeyFile(tmp_path))
    assert stored(tmp_path).read_bytes() == content


def test_a_folder_that_cannot_be_made_says_what_to_do(keys, tmp_path):
    (tmp_path / ".fnrun").write_text("in the way")
    with pytest.raises(StartError, match=r"^access keys cannot be kept in .*\.fnrun: File exists; make the folder wri"):
        keys.create("ci", ("read",))


def test_a_file_that_cannot_be_read_says_what_to_do(keys, tmp_path):
    stored(tmp_path).mkdir(parents=True)
    for use in (KeyFile.list, KeyFile.create_first, lambda keys: keys.verify("fnrun_0_x")):
        with pytest.raises(
            StartError, match=r"keys.json cannot be read: Is a directory; make it a file that this user"
        ):
            use(KeyFile(tmp_path))


def test_a_change_that_could_not_be_written_did_not_happen(keys, tmp_path):
    key, token = keys.create("ci", ("read",))
    (tmp_path / ".fnrun" / "keys.new").mkdir()
    for change in (lambda: keys.revoke(key.id), lambda: keys.create("other", ("read",))):
        with pytest.raises(StartError, match="access keys cannot be kept"):
            change()
    assert keys.list() == (key,)
    assert keys.verify(token) == key


@pytest.mark.parametrize("shared", [True, False], ids=["one-object", "an-object-each"])
def test_threads_that_create_at_once_lose_no_key(keys, tmp_path, shared):
    def create(number):
        return (keys if shared else KeyFile(tmp_path)).create(f"key {number}", ("read",))

    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(create, range(20)))
    assert {key.id for key, _ in made} == {key.id for key in KeyFile(tmp_path).list()}
    assert all(KeyFile(tmp_path).verify(token) == key for key, token in made)


CREATE_FIVE = """
import sys
from pathlib import Path
from runtime.base.keys import KeyFile
keys = KeyFile(Path(sys.argv[1]))
sys.stdin.readline()
for number in range(5):
    print(keys.create(f"key {number}", ("read",))[1])
"""


def test_processes_that_create_at_once_lose_no_key(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE_FIVE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    tokens = [line for process in processes for line in process.communicate()[0].splitlines()]
    assert len(set(tokens)) == 20
    keys = KeyFile(tmp_path)
    assert all(keys.verify(token) for token in tokens)
    assert len(keys.list()) == 20
