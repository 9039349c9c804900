from typing import get_args

from runtime import INJECTED, Header, Html, PlainText, Query, Reply


def test_a_marker_may_name_what_it_reads():
    assert Header("user-agent").name == "user-agent"
    assert Query().name is None


def test_text_results_carry_their_content_type():
    assert [get_args(kind)[1].value for kind in (PlainText, Html)] == [
        "text/plain; charset=utf-8",
        "text/html; charset=utf-8",
    ]


def test_a_reply_has_a_body_a_status_and_headers_of_its_own():
    headers = {"x-a": "1"}
    reply = Reply({"ok": True}, 201, headers)
    headers["x-b"] = "2"
    assert (reply.body, reply.status, reply.headers) == ({"ok": True}, 201, {"x-a": "1"})
    empty = Reply()
    assert (empty.body, empty.status, empty.headers) == (None, None, {})


def test_injected_says_its_name():
    assert repr(INJECTED) == "INJECTED"
