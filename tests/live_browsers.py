"""A real browser for tests of pages: the system's Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "no Chromium on PATH; `make browser` tells how to get one, or set FNRUN_TEST_BROWSER to its path"


@contextmanager
def a_browser() -> Iterator[Browser]:
    """Chromium without a window. Where there is none: a failure in CI, a skip elsewhere."""
    found = os.environ.get("FNRUN_TEST_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    with sync_playwright() as playwright:
        # Playwright itself adds what a container needs: no sandbox of its own, and no use of a small /dev/shm.
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


class Watch:
    """All that a page asked for, and all that went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.urls: list[str] = []
        self.faults: list[str] = []
        page.on("request", self._on_request)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.faults.append(str(error)))

    def _on_request(self, request: Request) -> None:
        self.urls.append(request.url)

    def _on_console(self, message: ConsoleMessage) -> None:
        # Chromium itself notes each answer of 400 and more there; a broken policy it notes as an error, too.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource: the server"):
            self.faults.append(message.text)


@contextmanager
def watched(browser: Browser, url: str) -> Iterator[Watch]:
    """A new page, watched: nothing is to be asked of anyone but the server, and nothing to go wrong."""
    context = browser.new_context(base_url=url)
    context.set_default_timeout(10_000)
    watch = Watch(context.new_page())
    yield watch
    context.close()
    assert [one for one in watch.urls if not one.startswith((f"{url}/", "data:", "blob:"))] == []
    assert watch.faults == []


def open_operation(page: Page, name: str) -> Locator:
    """The first fold of the operation "METHOD/path", opened."""
    fold = page.locator("details.op").filter(has=page.locator("summary", has_text=name)).first
    fold.locator("summary").first.click()
    expect(fold.get_by_role("button", name="Send")).to_be_visible()
    return fold


def send(fold: Locator) -> Locator:
    fold.get_by_role("button", name="Send").click()
    return fold.locator(".answer")
