"""Two replicas of one store: the first key, a revocation, and a signed message, as real processes see them."""

import base64
import secrets
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import pytest
from standardwebhooks import Webhook

from tests.keys import bearer
from tests.live_servers import until
from tests.stores import TcpStore

pytestmark = pytest.mark.live

APP = {
    "functions/app.py": """
        from runtime import http

        @http.get("/one")
        def one() -> int:
            return 1

        @http.post("/paid", auth="signed")
        async def paid() -> str:
            with open("journal", "a") as file:
                file.write("x")
            return "thanks"
        """
}


@pytest.fixture
def server(tmp_path) -> Iterator[TcpStore]:
    with TcpStore(tmp_path) as server:
        yield server


@pytest.mark.timeout(120)
def test_two_replicas_share_keys_and_messages(write_project, start, server, tmp_path, monkeypatch):
    root = write_project(**APP)
    monkeypatch.chdir(tmp_path)
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    environ = {"FNRUN_HTTP__BIND": "127.0.0.1:0", "FNRUN_STORE__URL": server.url, "FNRUN_SIGNING__SECRETS": secret}
    replicas = [start(root, "serve", environ=environ) for _ in range(2)]
    urls = [one.url for one in replicas]
    told = [line.split()[-1] for one in replicas for line in one.lines if "shown this once" in line]
    assert len(told) == 1, "one of them prints the first key"
    [token] = told
    assert [httpx.get(f"{url}/one", headers=bearer(token)).status_code for url in urls] == [200, 200]

    now, body = datetime.now(UTC), b""
    headers = {
        "webhook-id": "m1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("m1", now, body.decode()),
    }
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda url: httpx.post(f"{url}/paid", headers=headers, timeout=30), urls * 50))
    assert Counter(one.status_code for one in found) == {200: 1, 409: 99}
    assert (tmp_path / "journal").read_text() == "x"
    replicas[0].process.kill()
    replicas[0].wait()
    again = start(root, "serve", environ=environ)
    assert httpx.post(f"{again.url}/paid", headers=headers).status_code == 409
    assert "shown this once" not in again.output

    made = httpx.post(f"{urls[1]}/_/keys", json={"scopes": ["invoke"]}, headers=bearer(token)).json()
    assert httpx.get(f"{again.url}/one", headers=bearer(made["key"])).status_code == 200
    revoke = start(root, "keys", "revoke", made["id"], environ={"FNRUN_URL": urls[1], "FNRUN_KEY": token})
    assert revoke.wait() == 0
    until(lambda: httpx.get(f"{again.url}/one", headers=bearer(made["key"])).status_code == 401, 15)
    for line in (line for one in (*replicas, again, revoke) for line in one.lines if "shown this once" not in line):
        assert secret not in line
        assert token not in line
