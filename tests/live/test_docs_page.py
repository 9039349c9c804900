"""The page at /_/docs in a real browser, on a real server: what it shows, and trying it."""

import subprocess
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.live_browsers import Watch, open_operation, send
from tests.live_servers import Server

pytestmark = pytest.mark.live


def test_every_operation_is_listed_under_its_tag(page: Page, shop_server: Server):
    paths = httpx.get(f"{shop_server.url}/_/openapi.json").json()["paths"]
    shown = [line.split("\n")[:2] for line in page.locator("details.op > summary").all_inner_texts()]
    assert sorted(shown) == sorted([method.upper(), path] for path, item in paths.items() for method in item)
    assert page.get_by_role("heading", level=2).all_inner_texts() == ["other", "shop"]
    assert page.locator("details.op", has_text="/page").locator(".badge.key").count() == 0
    assert page.locator("details.op", has_text="/orders").locator(".badge.key").count() == 1


def test_the_filter_leaves_what_has_every_word(page: Page):
    page.get_by_label("Filter").fill("POST new")
    expect(page.locator("details.op:visible")).to_have_count(1)
    expect(page.locator("#count")).to_have_text("1 of 13")
    expect(page.get_by_role("heading", name="other")).to_be_hidden()
    page.get_by_label("Filter").fill("")
    expect(page.locator("details.op:visible")).to_have_count(13)


def test_a_docstring_is_text_whatever_it_says(page: Page):
    fold = open_operation(page, "/hello/{name}")
    expect(fold.locator(".summary")).to_have_text("Greet <b>somebody</b>.")
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script, main b").count() == 0


def test_the_policy_refuses_markup_and_foreign_addresses(watch: Watch):
    told = watch.page.evaluate("try { document.body.innerHTML = '<b>x</b>' } catch (error) { error.message }")
    assert "TrustedHTML" in told
    assert watch.page.evaluate("fetch('http://127.0.0.1:1/').catch(() => 'refused')") == "refused"
    assert watch.page.locator("b").count() == 0
    assert all("Content Security Policy" in fault or "TrustedHTML" in fault for fault in watch.faults)
    watch.faults.clear()
    watch.urls = [url for url in watch.urls if url != "http://127.0.0.1:1/"]


def test_a_get_with_parameters_is_tried(page: Page):
    fold = open_operation(page, "/hello/{name}")
    fold.get_by_label("name", exact=True).fill("Ada / Ω")
    fold.get_by_label("times").fill("2")
    fold.get_by_label("loud").select_option("true")
    answer = send(fold)
    expect(answer.locator(".status")).to_contain_text("200")
    expect(answer.locator(".output")).to_have_text(
        '{\n  "message": "Hello Ada / Ω! Hello Ada / Ω! ",\n  "loud": true,\n'
        '  "exact": 1152921504606846977,\n  "none": []\n}',
        use_inner_text=True,
    )
    expect(answer.locator(".status")).to_contain_text(" ms, ")
    answer.get_by_text("Headers").click()
    expect(answer.locator("details pre")).to_contain_text("x-run-id: ")
    expect(fold.locator(".command")).to_contain_text("/hello/Ada%20%2F%20%CE%A9?times=2&loud=true'")


def test_an_empty_path_parameter_is_asked_for_before_anything_is_sent(page: Page):
    fold = open_operation(page, "/hello/{name}")
    send(fold)
    expect(fold.get_by_label("name", exact=True)).to_be_focused()
    expect(fold.locator(".answer")).to_be_empty()


def test_a_json_body_is_filled_in_from_its_schema_and_tried(page: Page):
    fold = open_operation(page, "/orders")
    body = fold.get_by_label("Body (application/json)")
    assert '"sku": "A-1"' in body.input_value()
    fold.get_by_label("tag").fill("a\nb c")
    answer = send(fold)
    expect(answer.locator(".status")).to_contain_text("201")
    expect(answer.locator(".output")).to_contain_text('"b c"')
    body.fill('{"sku": "A-1", "qty": 100}')
    expect(send(fold).locator(".status")).to_contain_text("422")
    expect(answer.locator(".output")).to_contain_text("Expected `int` <= 99")
    body.fill('{"sku"')
    expect(fold.get_by_text("This is not JSON")).to_be_visible()
    expect(send(fold).locator(".status")).to_contain_text("400")


def test_the_command_is_quoted_for_a_shell(page: Page, shop_server: Server):
    fold = open_operation(page, "/orders")
    body = """{"sku": "it's $HOME `id` \\\\ !", \n"qty": 1}"""
    fold.get_by_label("Body (application/json)").fill(body)
    fold.get_by_label("tag").fill("'; id #&=\n$(id)")
    command = fold.locator(".command").inner_text()
    shown = subprocess.run(
        ["sh", "-c", f"curl() {{ printf '%s\\0' \"$@\"; }}\n{command}"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split("\0")[:-1] == [
        "-X", "POST", f"{shop_server.url}/orders?tag='%3B%20id%20%23%26%3D&tag=%24(id)",
        "-H", "Content-Type: application/json", "--data-raw", body,
    ]  # fmt: skip
    expect(send(fold).locator(".status")).to_contain_text("201")


def test_the_fields_of_a_body_are_told_and_a_recursive_one_ends(page: Page):
    fold = open_operation(page, "/orders")
    fold.get_by_text("Schema").click()
    fields = fold.locator("form .fields")
    expect(fields.first).to_contain_text("which article")
    expect(fields.first).to_contain_text("≤ 99")
    fields.get_by_text("fields", exact=True).click()
    expect(fields.nth(1)).to_contain_text("city")
    fold = open_operation(page, "/tree")
    fold.get_by_text("Schema").click()
    expect(fold.locator("form .fields")).to_contain_text("↺ as above")
    assert fold.get_by_label("Body (application/json)").input_value() == '{\n  "name": "string",\n  "children": []\n}'


def test_a_form_has_an_input_for_each_field(page: Page):
    fold = open_operation(page, "/add")
    fold.get_by_label("Content type").select_option("application/x-www-form-urlencoded")
    fold.get_by_label("x", exact=True).fill("2")
    fold.get_by_label("y", exact=True).fill("3")
    fold.get_by_label("how").select_option("twice")
    expect(send(fold).locator(".output")).to_have_text("10")
    expect(fold.locator(".command")).to_contain_text("--data-urlencode 'how=twice'")


def test_files_are_uploaded(page: Page, tmp_path: Path):
    (tmp_path / "one.txt").write_text("four")
    (tmp_path / "two.bin").write_bytes(bytes(1000))
    fold = open_operation(page, "/upload")
    fold.get_by_label("title").fill("it's @here")
    fold.get_by_label("files").set_input_files([tmp_path / "one.txt", tmp_path / "two.bin"])
    answer = send(fold)
    expect(answer.locator(".output")).to_contain_text('"one.txt": 4')
    expect(answer.locator(".output")).to_contain_text('"two.bin": 1000')
    expect(answer.locator(".output")).to_contain_text("it's @here")
    expect(fold.locator(".command")).to_contain_text("""--form-string 'title=it'\\''s @here'""")
    expect(fold.locator(".command")).to_contain_text("-F 'files=@one.txt'")


def test_bytes_come_back_as_a_download(page: Page, tmp_path: Path):
    content = bytes(range(256))
    (tmp_path / "some.bin").write_bytes(content)
    fold = open_operation(page, "/raw")
    fold.get_by_label("or a file").set_input_files(tmp_path / "some.bin")
    answer = send(fold)
    expect(answer).to_contain_text("application/octet-stream, 256 bytes")
    with page.expect_download() as download:
        answer.get_by_role("link", name="download").click()
    assert download.value.path().read_bytes() == content


def test_events_are_shown_as_they_come(page: Page, shop_server: Server):
    fold = open_operation(page, "GET/news")
    answer = send(fold)
    expect(answer.locator(".output")).to_contain_text('data: {"n":1}')
    expect(answer.locator(".status")).to_contain_text("so far")
    assert "id: 2" not in answer.inner_text()
    httpx.post(f"{shop_server.url}/news/next", headers={"origin": shop_server.url}).raise_for_status()
    expect(answer.locator(".output")).to_contain_text('data: {"n":2}')
    expect(answer.locator(".status")).not_to_contain_text("so far")


def test_an_endless_stream_is_stopped(page: Page):
    fold = open_operation(page, "/endless")
    answer = send(fold)
    expect(answer.locator(".output")).to_contain_text("more\nmore\n")
    fold.get_by_role("button", name="Stop").click()
    expect(answer.locator(".status")).to_contain_text("stopped")
    expect(fold.get_by_role("button", name="Stop")).to_be_hidden()


def test_a_stream_that_breaks_is_told_from_a_complete_one(watch: Watch):
    answer = send(open_operation(watch.page, "/broken"))
    expect(answer.locator(".output")).to_have_text("first")
    expect(answer.locator(".status")).to_contain_text("the connection broke")
    assert all("ERR_INCOMPLETE_CHUNKED_ENCODING" in fault for fault in watch.faults)
    watch.faults.clear()


def test_what_is_no_data_is_shown_as_text(page: Page):
    expect(send(open_operation(page, "/page")).locator(".output")).to_have_text("<i>as text</i>")


def test_what_no_page_may_send_is_in_the_command_only(page: Page):
    fold = open_operation(page, "/items/{rest}")
    fold.get_by_label("rest").fill("1")
    fold.get_by_label("session").fill("s 1")
    expect(fold.get_by_text("Browsers do not let a page set this")).to_be_visible()
    expect(send(fold).locator(".output")).to_have_text("1 of none")
    expect(fold.locator(".command")).to_contain_text("-b 'session=s 1'")


def test_an_address_opens_its_operation(page: Page):
    open_operation(page, "/hello/{name}")
    assert page.url.endswith("/_/docs#shop.hello")
    page.goto("/_/docs#shop.tree")
    expect(page.locator("details.op[open] .path")).to_have_text(["/hello/{name}", "/tree"])
    expect(page.locator("summary", has_text="/tree")).to_be_focused()
    page.reload()
    expect(page.locator("details.op[open] .path")).to_have_text(["/tree"])
    page.goto("/_/docs#sho%70.raw")
    expect(page.locator("details.op[open] .path")).to_have_text(["/tree", "/raw"])


def test_the_keyboard_is_enough(page: Page):
    page.get_by_label("Filter").fill("/page")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    fold = page.locator("details.op[open]")
    expect(fold.get_by_role("button", name="Send")).to_be_visible()
    for _ in range(5):
        if fold.get_by_role("button", name="Send").evaluate("node => node === document.activeElement"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(fold.locator(".output")).to_have_text("<i>as text</i>")


def test_every_input_has_a_label_and_every_id_is_one(page: Page):
    for summary in page.locator("details.op > summary").all():
        summary.click()
    expect(page.get_by_role("button", name="Send")).to_have_count(13)
    unlabelled = "[...document.querySelectorAll('input, select, textarea')].filter(one => !one.labels.length).length"
    assert page.evaluate(unlabelled) == 0
    repeated = "(ids => ids.length - new Set(ids).size)([...document.querySelectorAll('[id]')].map(one => one.id))"
    assert page.evaluate(repeated) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_sideways_scrolling_and_in_its_colours(page: Page, scheme):
    page.set_viewport_size({"width": 340, "height": 700})
    page.emulate_media(color_scheme=scheme)
    for summary in page.locator("details.op > summary").all():
        summary.click()
    expect(page.get_by_role("button", name="Send")).to_have_count(13)
    assert page.evaluate("document.documentElement.scrollWidth") == 340
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is (scheme == "light")
