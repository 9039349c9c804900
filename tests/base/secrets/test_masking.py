import json
import secrets
from urllib.parse import quote_plus

from hypothesis import given
from hypothesis import strategies as st

from runtime.base.secrets import masking
from runtime.base.secrets.masking import MASK, Secret, hide, mask, mask_bytes


def test_a_hidden_value_is_masked_wherever_it_stands():
    one, longer = secrets.token_hex(8), secrets.token_hex(4)
    hide([one, one + longer])
    assert mask(f"a {one} b {one}{longer}") == f"a {MASK} b {MASK}"
    assert mask_bytes(f'{{"x":"{one}\xff'.encode("latin-1")) == b'{"x":"****\xff'


def test_without_secrets_a_text_is_itself(monkeypatch):
    monkeypatch.setattr(masking, "_pattern", None)
    text = "anything"
    assert mask(text) is text
    assert mask_bytes(b"anything") == b"anything"


def test_a_short_value_is_not_looked_for():
    hide(["a", "", "order", " ab   "])
    assert mask("a order ab") == "a order ab"


@given(st.text(min_size=6, max_size=40).filter(lambda text: len(text.strip()) >= 6))
def test_it_is_masked_in_json_in_python_and_in_urls(hidden_within, value):
    with hidden_within():
        hide([value])
        value = value.strip()
        ways = [value, json.dumps({"x": value}), json.dumps({"x": value}, ensure_ascii=False), repr([value])]
        if value.isprintable():
            ways += [quote_plus(value, errors="replace"), repr(value.encode("utf-8", "surrogatepass"))]
        assert [MASK in mask(way) for way in ways] == [True] * len(ways)


def test_each_line_of_a_key_is_hidden():
    lines = [secrets.token_urlsafe(24) for _ in range(3)]
    hide(["-----BEGIN KEY-----\n" + "\n".join(lines) + "\n-----END KEY-----\n"])
    assert mask(f"wrong padding in {lines[1]}") == f"wrong padding in {MASK}"
    assert mask("-----BEGIN KEY-----") == "-----BEGIN KEY-----"


def test_a_secret_setting_is_text_that_does_not_show():
    value = secrets.token_hex(8)
    secret = Secret.parse(value)
    assert secret == value
    assert value not in repr([secret])
    assert repr(Secret("")) == "''"
