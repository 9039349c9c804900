"""The page at /_/docs where a key is asked for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.live_browsers import open_operation, send, watched
from tests.live_servers import Server

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def locked(shop: Path) -> Iterator[Server]:
    """The same under `serve`, where a key is asked for. `token`: one that may do everything."""
    server = Server(shop, "serve", "--bind", "127.0.0.1:0")
    server.token = server.wait_for_line(r"shown this once: (\S+)")[1]
    yield server
    assert server.stop() == 0


def test_a_key_is_asked_for_in_the_page_and_stays_in_the_tab(browser: Browser, locked: Server):
    with watched(browser, locked.url) as watch:
        page = watch.page
        assert page.goto("/_/docs").status == 401
        expect(page.get_by_text("These docs are open to who has a key.")).to_be_visible()
        expect(page.get_by_label("Access key")).to_be_focused()
        page.keyboard.type("fnrun_wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_text("the key is unknown, revoked or expired")).to_be_visible()
        assert page.locator("details.op").count() == 0
        page.get_by_label("Access key").fill(locked.token)
        page.get_by_role("button", name="Use key").click()
        fold = open_operation(page, "/tree")
        expect(send(fold).locator(".status")).to_contain_text("200")
        expect(fold.locator(".command")).to_contain_text('-H "Authorization: Bearer $FNRUN_KEY"')
        page.reload()
        expect(page.get_by_role("heading", name="shop")).to_be_visible()
        kept = page.evaluate("[{...localStorage}, document.cookie, location.href, document.documentElement.outerHTML]")
        assert locked.token not in repr(kept)
        assert page.evaluate("sessionStorage.length") == 1
        assert [url for url in watch.urls if locked.token in url] == []
        other = page.context.new_page()
        other.goto("/_/docs")
        expect(other.get_by_text("These docs are open to who has a key.")).to_be_visible()
        page.get_by_role("button", name="Forget").click()
        expect(page.get_by_text("These docs are open to who has a key.")).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 0


def test_a_key_that_may_not_read_is_told_so(browser: Browser, locked: Server, shop: Path, start):
    made = start(shop, "keys", "create", "--scope", "invoke")
    token = made.wait_for_line(r"(fnrun_\S+)")[1]
    with watched(browser, locked.url) as watch:
        watch.page.goto("/_/docs")
        watch.page.get_by_label("Access key").fill(token)
        watch.page.get_by_role("button", name="Use key").click()
        expect(watch.page.get_by_text("this key's scopes do not allow to read").first).to_be_visible()
        assert watch.page.evaluate("sessionStorage.length") == 0
