import pytest

from runtime.base.web.places import Refused, check_url, is_public

PRIVATE = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.255.0.1 168.63.129.16 169.254.0.1
    169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.168.0.1 198.18.0.1 198.51.100.1
    203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
    :: ::1 ::127.0.0.1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:a9fe:a9fe ::ffff:0:127.0.0.1 ::ffff:168.63.129.16
    64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:0:7f00:1::1 2001:db8::1
    2002:7f00:1:: 2002:a00:1:: 2002:a9fe:a9fe:: 3fff::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%lo fec0::1 ff02::1 ff0e::1
"""
PUBLIC = "1.1.1.1 8.8.8.8 93.184.216.34 2606:4700::1111 2a00:1450:4001::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8"
BAD = (
    """
    |ftp://example.com/|file:///etc/passwd|gopher://example.com|//example.com|example.com|http://|http:///x|https://:443/
    |http://[::1|http://exa mple.com|http://example.com/\\r\\nx: y|http://ex\u00e4mple.com|http://user@example.com
    |http://user:pass@example.com|http://@example.com|http://example.com:99999|http://example.com:x|http://\uff11.1.1.1
""".strip()
    .replace("\n", "")
    .split("|")
)

STRANGE = [f"http://{host}/" for host in (r"a.com\.example.com", "a.com%2f.b.com", "[fe80::1%25lo]", "a;b", "a,b", "*")]


@pytest.mark.parametrize("address", PRIVATE.split())
def test_what_is_no_address_of_the_internet_is_not_public(address: str):
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_what_is_somebodys_on_the_internet_is_public(address: str):
    assert is_public(address)


@pytest.mark.parametrize("url", [one.strip() for one in BAD] + ["http://e.com/" + "x" * 2000, *STRANGE])
def test_what_cannot_be_sent_to_is_refused(url: str):
    with pytest.raises(Refused):
        check_url(url)


def test_the_host_of_a_url_is_told():
    for url in ("https://Example.com/x?y=1", "http://example.com:81", "https://example.com./".replace("./", "/")):
        assert check_url(url) == "example.com"
    assert check_url("http://[::1]:80/") == "::1"
