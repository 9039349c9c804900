from urllib.parse import urlsplit

import pytest
from kombu import Connection

from runtime.base.addresses import Address, mask


@pytest.mark.parametrize(
    ("text", "where", "broker"),
    [
        ("redis://h", "redis://h:6379/0", "redis://h:6379/0"),
        ("redis://h:1/3", "redis://h:1/3", "redis://h:1/3"),
        ("redis://h/?db=2", "redis://h:6379/2", "redis://h:6379/2"),
        ("redis://[::1]:7/1", "redis://[::1]:7/1", "redis://[::1]:7/1"),
        ("redis://:p%40ss@h", "redis://h:6379/0", "redis://:p%40ss@h:6379/0"),
        ("redis://me:pw@h:1/0", "redis://h:1/0", "redis://me:pw@h:1/0"),
        ("rediss://me:pw@h", "rediss://h:6379/0", "rediss://me:pw@h:6379/0?ssl_cert_reqs=required"),
        (
            "rediss://h?ssl_ca_certs=/ca.pem",
            "rediss://h:6379/0",
            "rediss://h:6379/0?ssl_cert_reqs=required&ssl_ca_certs=%2Fca.pem",
        ),
        ("redis+socket:///run/v.sock", "redis+socket:///run/v.sock", "redis+socket:///run/v.sock?virtual_host=0"),
        ("unix:///run/v.sock?db=1", "redis+socket:///run/v.sock?db=1", "redis+socket:///run/v.sock?virtual_host=1"),
        (
            "redis+socket://me:pw@/run/v.sock?virtual_host=1",
            "redis+socket:///run/v.sock?db=1",
            "redis+socket://me:pw@/run/v.sock?virtual_host=1",
        ),
    ],
)
def test_an_address_is_read_shown_and_handed_to_kombu(text, where, broker):
    address = Address.parse(text)
    assert (address.where, address.broker_url) == (where, broker)


@pytest.mark.parametrize(
    "text",
    ["redis://me:p%40s%2Fs@h:1/3", "rediss://:pw@h:1/0", "redis+socket:///run/v.sock?db=2", "unix://u:p@/v.sock?db=2"],
)
def test_kombu_reads_what_redis_py_gets(text):
    address = Address.parse(text)
    channel = Connection(address.broker_url).transport.Channel
    with Connection(address.broker_url) as connection:
        found = channel._connparams(type("Unopened", (channel,), {
            "__init__": lambda self: None, "connection": type("Its", (), {"client": connection, "default_port": 6379}),
        })())  # fmt: skip
    ours = {name: value for name, value in address.options.items() if value is not None}
    assert {name: found.get(name) for name in ours} == ours
    if address.scheme == "rediss":
        assert (found["ssl_cert_reqs"].name, found["connection_class"].__name__) == ("CERT_REQUIRED", "SSLConnection")


def fault_of(text: str) -> str:
    with pytest.raises(ValueError, match=r"'.*'") as caught:
        Address.parse(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("localhost:6379", "'localhost:6379' is not the address of a store; write \"embedded\", or one like redis://"),
        ("http://h", "'http://h' is not the address of a store"),
        ("redis://", "'redis://': no host; write redis://host:6379/0"),
        ("redis://h:many", "'redis://h:many': the host or the port cannot be read; write redis://host:6379/0, "),
        ("redis://h/x", "'redis://h/x': the database is one number, 0 or above"),
        ("redis://h/1?db=2", "'redis://h/1?db=2': the database is one number, 0 or above"),
        ("redis://h?socket_timeout=1", "'redis://h?socket_timeout=********': unknown option \"socket_timeout\"; there"),
        ("redis://h?ssl_ca_certs=x", "'redis://h?ssl_ca_certs=x': unknown option \"ssl_ca_certs\"; there are: db"),
        ("unix://run/v.sock", "'unix://run/v.sock': the socket's absolute path is expected: redis+socket:///run/"),
        ("redis+socket:///", "'redis+socket:///': the socket's absolute path is expected"),
    ],
)
def test_a_fault_is_named_with_its_fix(text, message):
    assert fault_of(text).startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "redis://me:s3cret@h:x",
        "redis://me:a/s3cret@h",
        "redis://me:s3cret?@h",
        "redis://me:s3cret#@h:1",
        "redis://h?password=s3cret",
        "redis://h/0?db=0&auth=s3cret",
        "me:s3cret@h",
        "redis+socket://me:s3cret@run/v.sock",
        "redis://me:@s3cret@h/x",
    ],
)
def test_no_message_has_the_password(text):
    assert "s3cret" not in fault_of(text)
    assert "s3cret" not in mask(text)


def test_a_masked_address_is_still_of_use():
    assert mask("rediss://me:pw@db.example:6380/2?db=2") == "rediss://********@db.example:6380/2?db=2"
    assert urlsplit(mask("redis://h")).hostname == "h"
