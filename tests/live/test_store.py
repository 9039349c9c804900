"""The store with real servers, which are really killed, frozen and cut off."""

import asyncio
import fcntl
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
import trustme

from runtime.base.errors import StartError, StoreDown
from runtime.base.keeper import ask, lock_file
from runtime.base.sections import StoreSettings
from runtime.base.store import Store, as_store_down
from tests.live_servers import until
from tests.stores import HOST, Proxy, TcpStore, free_port, keeper_id, private_store, server_id

pytestmark = pytest.mark.live

USER = """
import os, sys, time
from pathlib import Path
from runtime.base.sections import StoreSettings
from runtime.base.store import Store

store = Store.open(Path(sys.argv[1]), StoreSettings())
client = store.connect()
client.incr("users")
print("open", flush=True)
{then}
"""


class User:
    """Another process that uses the embedded store of a folder."""

    def __init__(self, root: Path, then: str = "sys.stdin.read()", *, wait: bool = True) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER.format(then=then), str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if wait:
            assert self.said() == "open"

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def end(self, number: int = 0) -> None:
        if number:
            self.process.send_signal(number)
        self.process.communicate(timeout=20)


@pytest.fixture
def users(tmp_path):
    """`users(count)`: processes that use the store of tmp_path; they end at the end."""
    started: list[User] = []

    def start(count: int = 1, **options) -> list[User]:
        some = [User(tmp_path, wait=False, **options) for _ in range(count)]
        started.extend(some)
        assert [user.said() for user in some] == ["open"] * count
        return some

    yield start
    for user in started:
        if user.process.poll() is None:
            user.end(signal.SIGKILL)


@pytest.fixture
def tcp(tmp_path):
    """`tcp(*options)`: a server on a port; it ends at the end."""
    started: list[TcpStore] = []

    def start(*options: str) -> TcpStore:
        started.append(TcpStore(tmp_path, *options))
        return started[-1]

    yield start
    for server in started:
        server.__exit__()


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path):
    yield
    until(lambda: not keeper_id(tmp_path) and not is_used(tmp_path), 15)  # a frozen server is given 5 s
    until(lambda: not zombies(), 5)


def zombies() -> list[str]:
    stats = [(path, path.read_text().rpartition(")")[2].split()) for path in Path("/proc").glob("[0-9]*/stat")]
    return [str(path) for path, fields in stats if fields[0] == "Z" and int(fields[1]) == os.getpid()]


def freeze(process: int) -> None:
    os.kill(process, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T")


def is_used(root: Path) -> bool:
    """Whether a server is there that holds the folder's data."""
    lock = lock_file(str(folder_of(root) / "server.lock"), fcntl.LOCK_EX | fcntl.LOCK_NB) if is_there(root) else 0
    if lock:
        os.close(lock)
    return lock is None


def is_there(root: Path) -> bool:
    return (folder_of(root) / "server.lock").exists()


def folder_of(root: Path) -> Path:
    return root / ".fnrun" / "store"


def answers(client: redis.Redis) -> bool:
    try:
        with as_store_down():
            return client.ping()
    except StoreDown:
        return False


def acl(user: str) -> list[str]:
    return ["--user", *user.split()]


# --- the embedded store ------------------------------------------------------------------------------------------


def test_it_is_private_durable_and_quick(tmp_path):
    began = time.monotonic()
    with private_store(tmp_path) as store, store.connect() as client:
        assert time.monotonic() - began < 10
        assert (store.where, store.namespace) == ("embedded (.fnrun/store)", "fnrun")
        assert store.durability == "append-only file, fsync each second"
        path = folder_of(tmp_path) / "valkey.sock"
        assert store.broker_url == f"redis+socket://{path}?virtual_host=0"
        assert oct(folder_of(tmp_path).stat().st_mode & 0o777) == "0o700"
        assert oct(path.stat().st_mode & 0o777) == "0o600"
        assert client.config_get("port", "maxmemory-policy") == {"port": "0", "maxmemory-policy": "noeviction"}
        loose = [file.name for file in folder_of(tmp_path).rglob("*") if file.is_file() and file.stat().st_mode & 0o077]
        assert loose == []


def test_what_was_written_is_there_when_it_is_opened_again(tmp_path):
    for count in (1, 2, 3):
        with private_store(tmp_path) as store, store.connect() as client:
            assert client.incr("opened") == count


def test_twenty_processes_at_once_have_one_server(tmp_path, users):
    users(20)
    with private_store(tmp_path) as store, store.connect() as client:
        assert client.get("users") == b"20"
        assert client.info("server")["process_id"] == server_id(tmp_path)


def test_processes_come_and_go_and_nothing_is_lost(tmp_path):
    # Each may be alone for a moment: keepers end and begin between them.
    for _ in range(3):
        some = [User(tmp_path, then="", wait=False) for _ in range(6)]
        assert [user.said() for user in some] == ["open"] * 6
        for user in some:
            user.end()
            assert user.process.returncode == 0
    with private_store(tmp_path) as store, store.connect() as client:
        assert client.get("users") == b"18"


@pytest.mark.parametrize("number", [0, signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_last_user_however_that_one_dies(tmp_path, users, number):
    first, last = users(2)
    server, keeper = server_id(tmp_path), keeper_id(tmp_path)
    first.end(number)
    with private_store(tmp_path) as store, store.connect() as client:
        assert client.info("server")["process_id"] == server
    last.end(number)
    until(lambda: not is_used(tmp_path) and not keeper_id(tmp_path), 2)
    assert not (folder_of(tmp_path) / "valkey.sock").exists()
    assert keeper


def test_who_comes_just_as_the_last_one_goes_gets_a_fresh_one(tmp_path):
    for count in range(1, 31):
        store = Store.open(tmp_path, StoreSettings())
        with store.connect() as client:
            assert client.incr("opened") == count
        store.close()


def test_a_killed_server_is_back_soon_with_its_data(tmp_path):
    with private_store(tmp_path) as store, store.connect() as client:
        for count in range(1, 11):
            server = server_id(tmp_path)
            client.set("kept", count)
            os.kill(server, signal.SIGKILL)  # with not a moment between: what was answered must have been written
            until(lambda: answers(client), 5)
            assert client.get("kept") == str(count).encode()


async def test_an_async_client_finds_the_new_server_by_itself(tmp_path):
    with private_store(tmp_path) as store, store.connect() as client:
        async with store.connect_async() as other:
            await other.set("kept", 1)
            os.kill(server_id(tmp_path), signal.SIGKILL)
            await asyncio.to_thread(until, lambda: answers(client))  # the loop hears of the connection's end
            assert await other.get("kept") == b"1"


def test_a_killed_keeper_is_replaced_and_its_server_too(tmp_path, users):
    users(3)
    with private_store(tmp_path) as store, store.connect() as client:
        client.set("kept", 1)
        for _ in range(3):
            keeper, server = until(lambda: keeper_id(tmp_path)), server_id(tmp_path)
            os.kill(keeper, signal.SIGKILL)
            until(lambda old=keeper: keeper_id(tmp_path) not in (0, old))
            until(lambda old=server: server_id(tmp_path) not in (0, old) and answers(client))
            assert client.get("kept") == b"1"
            until(lambda old=server: not Path(f"/proc/{old}").exists())


def test_keeper_and_server_killed_at_once_are_replaced(tmp_path):
    with private_store(tmp_path) as store, store.connect() as client:
        client.set("kept", 1)
        keeper = keeper_id(tmp_path)
        os.kill(keeper, signal.SIGKILL)
        os.kill(server_id(tmp_path), signal.SIGKILL)
        until(lambda: answers(client), 5)
        assert client.get("kept") == b"1"


@pytest.mark.parametrize("server_too", [False, True])
def test_after_everything_was_killed_it_opens_with_its_data(tmp_path, users, server_too):
    some = users(2)
    server = server_id(tmp_path)
    for user in some:
        freeze(user.process.pid)  # so that none replaces the keeper
    os.kill(keeper_id(tmp_path), signal.SIGKILL)
    if server_too:
        os.kill(server, signal.SIGKILL)
    for user in some:
        user.end(signal.SIGKILL)
    until(lambda: not keeper_id(tmp_path))
    if server_too:
        until(lambda: not is_used(tmp_path))
    else:
        assert is_used(tmp_path)
    with private_store(tmp_path) as store, store.connect() as client:
        assert client.get("users") == b"2"
        assert client.info("server")["process_id"] != server


def test_a_frozen_server_that_a_killed_keeper_left_is_killed(tmp_path, users):
    [user] = users()
    server = server_id(tmp_path)
    freeze(user.process.pid)
    freeze(server)
    os.kill(keeper_id(tmp_path), signal.SIGKILL)
    user.end(signal.SIGKILL)
    with private_store(tmp_path) as store, store.connect() as client:
        assert client.get("users") == b"1"


def test_a_signal_for_all_of_a_service_does_not_take_it_from_who_still_works(tmp_path):
    with private_store(tmp_path) as store, store.connect() as client:
        keeper = keeper_id(tmp_path)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            os.kill(keeper, number)
            os.kill(server_id(tmp_path), number)
            until(lambda: answers(client), 5)
        assert keeper_id(tmp_path) == keeper


def test_what_a_user_starts_or_forks_does_not_keep_it(tmp_path, users):
    then = """
import subprocess
subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], close_fds=False)
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print("forked", flush=True)
sys.stdin.read()
"""
    [user] = users(then=then)
    assert user.said() == "forked"
    user.process.kill()
    user.process.wait()
    until(lambda: not is_used(tmp_path), 2)
    user.process.communicate()


def test_what_a_user_forked_does_not_hold_the_lock_of_the_keeper(tmp_path, users):
    [user] = users(then="pid = os.fork()\nif pid == 0: time.sleep(60)\nprint(pid, flush=True)\nsys.stdin.read()")
    child = int(user.said())
    try:
        with private_store(tmp_path) as store, store.connect() as client:
            for _ in range(2):  # the first replacement takes a lock that was waited for when it forked
                keeper = until(lambda: keeper_id(tmp_path))
                os.kill(keeper, signal.SIGKILL)
                until(lambda old=keeper: keeper_id(tmp_path) not in (0, old) and answers(client))
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_path_too_long_for_a_socket_gets_a_short_one(tmp_path):
    root = tmp_path / ("long" * 20) / ("long" * 20)
    root.mkdir(parents=True)
    with private_store(root) as store, private_store(root) as other, store.connect() as client:
        with other.connect() as second:
            client.set("kept", 1)
            assert second.get("kept") == b"1"
        short = Path(store.broker_url.removeprefix("redis+socket://").partition("?")[0])
        assert len(str(short)) < 100
        assert oct(short.parent.stat().st_mode & 0o777) == "0o700"
    until(lambda: not short.exists())
    until(lambda: not keeper_id(root))


def test_projects_do_not_meet(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with private_store(tmp_path / "a") as a, private_store(tmp_path / "b") as b, a.connect() as one, b.connect() as two:
        one.set("mine", 1)
        assert two.get("mine") is None
    for name in ("a", "b"):
        until(lambda name=name: not keeper_id(tmp_path / name))


# --- its data ----------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path) -> Path:
    """The file of a store that has taken in 100 keys and is gone."""
    with private_store(tmp_path) as store, store.connect() as client:
        for count in range(100):
            client.set(f"key:{count}", "x" * 20)
    until(lambda: not is_used(tmp_path))
    return next((folder_of(tmp_path) / "appendonlydir").glob("*.incr.aof"))


def test_damaged_data_are_refused_and_kept_and_can_be_mended(tmp_path, data):
    content = bytearray(data.read_bytes())
    at = content.index(b"\r\n*", len(content) // 2) + 2
    content[at : at + 1] = b"?"
    data.write_bytes(content)
    with pytest.raises(StartError) as caught:
        Store.open(tmp_path, StoreSettings())
    for part in ("damaged", data.name, "--fix", str(data.parent), "move the folder away"):
        assert part in str(caught.value)
    assert data.read_bytes() == content
    until(lambda: not keeper_id(tmp_path))

    (tmp_path / "valkey-check-aof").symlink_to(server_program())  # the same program under another name
    subprocess.run([tmp_path / "valkey-check-aof", "--fix", data], input=b"y\n", check=True, capture_output=True)
    with private_store(tmp_path) as store, store.connect() as client:
        assert 40 < client.dbsize() < 60


def server_program() -> str:
    from runtime.base.embedded import find_server

    return find_server()


def test_an_end_that_was_cut_off_is_accepted(tmp_path, data):
    data.write_bytes(data.read_bytes()[:-10])
    with private_store(tmp_path) as store, store.connect() as client:
        assert client.dbsize() == 99


def test_data_that_are_damaged_while_it_is_used_are_named_in_the_log_and_it_is_back_when_they_are_mended(
    tmp_path, data, log
):
    good = data.read_bytes()
    with private_store(tmp_path) as store, store.connect() as client:
        with data.open("r+b") as file:
            file.seek(len(good) // 2)
            file.write(b"?" * 100)
        os.kill(server_id(tmp_path), signal.SIGKILL)
        away = until(lambda: [entry for entry in log.entries if entry["event"] == "the embedded store is away"])
        assert "damaged" in away[0]["reason"]
        data.write_bytes(good)
        until(lambda: answers(client))
        assert client.dbsize() == 100


def test_the_log_does_not_grow_without_end(tmp_path, data):
    file = folder_of(tmp_path) / "server.log"
    file.write_bytes(b"a line of an older time\n" * 100_000)
    with private_store(tmp_path):
        assert file.stat().st_size < 300_000
        assert file.read_bytes().startswith(b"a line")


# The kernel's own ENOSPC: a limit on a file's size is another error, and to fill the machine's disk is no test.
@pytest.mark.skipif(os.getuid() != 0, reason="it fills a small file system, which only root may mount")
def test_a_full_disk_is_named(tmp_path):
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], check=False)
    if mount.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        free = os.statvfs(tmp_path)
        (tmp_path / "filler").write_bytes(b"x" * (free.f_bavail * free.f_bsize))
        with pytest.raises(StartError, match=r"(?i)no space left"):
            Store.open(tmp_path, StoreSettings())
        until(lambda: not keeper_id(tmp_path))
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


# --- a shared server ---------------------------------------------------------------------------------------------


def test_a_shared_server_is_used_as_it_is(tmp_path, tcp, log):
    server = tcp()
    store = Store.open(tmp_path, StoreSettings(url=f"redis://{HOST}:{server.port}/3", namespace="staging"))
    assert (store.where, store.namespace) == (f"redis://{HOST}:{server.port}/3", "staging")
    assert store.durability == "append-only file, fsync each second"
    with store.connect() as client:
        client.set("mine", 1)
        assert client.info("keyspace")["db3"]["keys"] >= 1
    assert log.entries == []
    assert not (tmp_path / ".fnrun").exists()
    store.close()


def test_a_socket_a_user_and_a_password_are_used(tmp_path, tcp):
    server = tcp(*acl("me on >s3:cr@t/ ~fnrun:* &fnrun:* +@all"), *acl("default off"))
    path = tmp_path / f"store-{server.port}" / "admin.sock"
    for url in (f"redis+socket://me:s3%3Acr%40t%2F@{path}?db=2", f"redis://me:s3%3Acr%40t%2F@{HOST}:{server.port}/2"):
        store = Store.open(tmp_path, StoreSettings(url=url))
        assert "s3" not in store.where
        with store.connect() as client:
            assert client.set("fnrun:x", 1)


@pytest.mark.parametrize(
    ("options", "access", "message"),
    [
        (["--requirepass", "right"], ":s3cret@", "refuses the user or the password"),
        (["--requirepass", "right"], "", "wants a password; set it in store.url, redis://:password@host"),
        (acl("me on >s3cret ~* +ping +info +config"), "me:s3cret@", "does not permit what is needed"),
        (acl("me on >s3cret ~other:* +@all"), "me:s3cret@", "does not permit what is needed"),
        (acl("me on >s3cret ~fnrun:* resetchannels +@all"), "me:s3cret@", "does not permit what is needed"),
        ([], ":s3cret@", "refuses the user or the password"),
        (["--cluster-enabled", "yes"], "", "is a node of a Redis Cluster, which is not supported"),
        (["--replicaof", f"{HOST} 1"], "", "is a replica, which only reads; give the primary's address"),
        (["--maxmemory", "1"], "", "refuses what is needed (command not allowed when used memory > 'maxmemory'"),
    ],
)
def test_a_server_that_cannot_be_used_is_refused_with_the_fix(tmp_path, tcp, options, access, message):
    server = tcp(*options)
    with pytest.raises(StartError) as caught:
        Store.open(tmp_path, StoreSettings(url=f"redis://{access}{HOST}:{server.port}"))
    assert str(caught.value).startswith(f"the store at redis://{HOST}:{server.port}/0 {message}")
    assert "s3cret" not in str(caught.value)


def test_a_database_that_is_not_there_is_named(tmp_path, tcp):
    with pytest.raises(StartError, match=r"/99 refuses what is needed \(.*DB index is out of range"):
        Store.open(tmp_path, StoreSettings(url=f"redis://{HOST}:{tcp().port}/99"))


@pytest.mark.parametrize(
    ("options", "durability", "warned"),
    [
        (["--appendfsync", "always"], "append-only file, fsync at each write", ""),
        (["--appendonly", "no"], "none: all is lost with the server", "THE STORE LOSES RUNS when its server dies"),
        (
            ["--appendonly", "no", "--save", "60 1"],
            "snapshots alone (save 60 1): what came after the last one is lost with the server",
            "THE STORE LOSES RUNS when its server dies",
        ),
        (
            ["--maxmemory-policy", "allkeys-lru"],
            "append-only file, fsync each second; evicts keys (allkeys-lru)",
            "THE STORE LOSES RUNS when its memory is full",
        ),
    ],
)
def test_what_can_lose_runs_is_said_loudly(tmp_path, tcp, log, options, durability, warned):
    store = Store.open(tmp_path, tcp(*options).settings)
    assert store.durability == durability
    assert [(entry["log_level"], entry["event"].startswith(warned)) for entry in log.entries] == (
        [("warning", True)] if warned else []
    )


def test_what_may_not_be_looked_at_is_said_to_be_unchecked(tmp_path, tcp, log):
    server = tcp(*acl("me on >x ~fnrun:* &fnrun:* +@all -config"))
    store = Store.open(tmp_path, StoreSettings(url=f"redis://me:x@{HOST}:{server.port}"))
    assert store.durability == "append-only file, fsync not known"
    assert "cannot be checked" in log.entries[0]["event"]


# --- away --------------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_named_at_once(tmp_path):
    port = free_port()
    began = time.monotonic()
    with pytest.raises(StartError, match=f"redis://{HOST}:{port}/0 cannot be reached .*; start it, or correct store"):
        Store.open(tmp_path, StoreSettings(url=f"redis://{HOST}:{port}"))
    with pytest.raises(StartError, match=r"redis\+socket:///.*/no.sock cannot be reached"):
        Store.open(tmp_path, StoreSettings(url=f"unix://{tmp_path}/no.sock"))
    with pytest.raises(StartError, match=r"redis://nowhere.invalid:6379/0 cannot be reached"):
        Store.open(tmp_path, StoreSettings(url="redis://nowhere.invalid"))
    assert time.monotonic() - began < 5


def test_a_black_hole_is_named_within_five_seconds(tmp_path):
    with socket.create_server((HOST, 0)) as silent:
        began = time.monotonic()
        with pytest.raises(StartError, match="does not answer in time"):
            Store.open(tmp_path, StoreSettings(url=f"redis://{HOST}:{silent.getsockname()[1]}"))
        assert time.monotonic() - began < 5


@pytest.fixture
def network(tcp):
    with Proxy(tcp().port) as proxy:
        yield proxy


@pytest.mark.parametrize("fault", ["cut", "freeze", "reset_all"])
def test_a_client_hears_of_a_fault_within_five_seconds_and_goes_on_after_it(tmp_path, network, fault):
    store = Store.open(tmp_path, network.settings)
    with store.connect() as client:
        client.set("kept", 1)
        getattr(network, fault)()
        began = time.monotonic()
        if fault != "reset_all":  # a fresh connection works then, and a client takes one
            for _ in range(2):
                with pytest.raises(StoreDown), as_store_down():
                    client.get("kept")
        assert time.monotonic() - began < 10
        network.restore()
        until(lambda: answers(client))
        assert client.get("kept") == b"1"


async def asked(client: redis.asyncio.Redis) -> bytes | None:
    with as_store_down():
        return await client.get("kept")


@pytest.mark.parametrize("fault", ["cut", "freeze"])
async def test_an_async_client_does_so_too_however_many_wait(tmp_path, network, fault):
    store = Store.open(tmp_path, network.settings)
    async with store.connect_async(connections=4) as client:
        await client.set("kept", 1)
        getattr(network, fault)()
        began = time.monotonic()
        found = await asyncio.gather(*(asked(client) for _ in range(20)), return_exceptions=True)
        assert time.monotonic() - began < 5
        assert {type(error) for error in found} == {StoreDown}
        network.restore()
        assert await client.get("kept") == b"1"


async def test_a_blocking_command_may_wait_longer_than_an_answer(tmp_path, tcp):
    store = Store.open(tmp_path, tcp().settings)
    async with store.connect_async(timeout_seconds=8) as client:
        assert await client.brpop("nothing", timeout=3.5) is None
    with store.connect(timeout_seconds=None) as client:
        assert client.brpop("nothing", timeout=3.5) is None


def test_a_frozen_server_and_a_slow_network_are_survived(tmp_path, tcp):
    server = tcp()
    with Proxy(server.port) as network:
        network.delay = 0.1
        store = Store.open(tmp_path, network.settings)
        with store.connect() as client:
            assert client.ping()
            server.freeze()
            with pytest.raises(redis.TimeoutError):
                client.ping()
            server.thaw()
            assert client.ping()


def test_a_server_that_loads_is_waited_for(tmp_path, tcp):
    server = tcp(
        "--key-load-delay", "1000", "--rdbcompression", "no", "--loading-process-events-interval-bytes", "1024"
    )
    with redis.Redis(port=server.port) as client, client.pipeline() as pipeline:
        for count in range(1000):
            pipeline.set(count, "x" * 100)
        pipeline.execute()
        client.bgrewriteaof()
        until(lambda: client.info("persistence")["aof_base_size"] > 20_000)
    server.kill()
    server.start(wait=False)
    until(lambda: ask(str(tmp_path / f"store-{server.port}" / "admin.sock"), b"PING").startswith(b"-LOADING"))
    store = Store.open(tmp_path, server.settings)
    with store.connect() as client:
        assert client.dbsize() == 1000


# --- TLS: the wheel's server has none, so the network speaks it --------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def secured(tcp, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    with Proxy(tcp("--requirepass", "s3cret").port, tls=context) as proxy:
        yield proxy


async def test_tls_with_a_known_authority_works(tmp_path, secured, authority):
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    url = f"rediss://:s3cret@{HOST}:{secured.port}/1?ssl_ca_certs={file}"
    store = Store.open(tmp_path, StoreSettings(url=url))
    with store.connect() as client:
        assert client.set("kept", 1)
    async with store.connect_async() as other:
        assert await other.get("kept") == b"1"
    assert "ssl_cert_reqs=required" in store.broker_url


def test_a_certificate_that_does_not_verify_is_refused(tmp_path, secured):
    with pytest.raises(StartError, match=r"has a certificate that does not verify .*; name its authority: rediss://"):
        Store.open(tmp_path, StoreSettings(url=f"rediss://:s3cret@{HOST}:{secured.port}"))


def test_tls_where_there_is_none_and_the_other_way_round_is_explained(tmp_path, tcp, secured):
    with pytest.raises(StartError, match=r"does not answer in time .*; if it speaks no TLS, write redis://"):
        Store.open(tmp_path, StoreSettings(url=f"rediss://{HOST}:{tcp().port}"))
    with pytest.raises(StartError, match=r"cannot be reached .*; if it speaks TLS, write rediss://"):
        Store.open(tmp_path, StoreSettings(url=f"redis://{HOST}:{secured.port}"))


def test_the_settings_of_a_project_show_no_password(tmp_path):
    environ = {**os.environ, "FNRUN_STORE__URL": "redis://me:s3cret@h/1"}
    command = [sys.executable, "-m", "runtime", "--dir", str(tmp_path), "config", "--why"]
    shown = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    assert 'store.url = "redis://********@h/1"    # FNRUN_STORE__URL' in shown
    assert "s3cret" not in shown
    assert json.dumps("embedded") not in shown
