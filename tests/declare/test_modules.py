"""How the files of functions/ are imported."""

import os
from itertools import permutations

import pytest

from runtime.declare.loader import PACKAGE


@pytest.mark.parametrize("first", ["functions.orders", "functions.orders.create", "functions.orders.sub.deep"])
def test_a_file_beside_its_folder_is_one_module_whoever_imports_it_first(load_files, first: str):
    registry = load_files(
        {
            "a.py": f"import {first}\n@http.get('/a')\ndef a(): ...",
            "orders.py": "@http.get('/o')\ndef handler(): ...",
            "orders/__init__.py": "raise RuntimeError('orders.py is the module')",
            "orders/create.py": "@http.get('/c')\ndef handler(): ...",
            "orders/sub/deep.py": "@http.get('/d')\ndef handler(): ...",
        }
    )
    assert registry.failures == ()
    assert set(registry.functions) == {"a", "orders", "orders.create", "orders.sub.deep"}


def test_a_file_saved_twice_within_a_second_is_served_in_its_last_form(load_files, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    stamp = (1_700_000_000, 1_700_000_000)
    for answer in ("1", "2"):
        load_files(
            {"_lib.py": f"VALUE = {answer}", "a.py": f"from functions import _lib\n@fn()\ndef a(): return {answer}"}
        )
        for name in ("_lib.py", "a.py"):
            os.utime(tmp_path / PACKAGE / name, stamp)
        call = load_files({}).functions["a"].call
        assert (call(), call.__globals__["_lib"].VALUE) == (int(answer), int(answer))
    assert not list(tmp_path.rglob("*.pyc"))


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_files_that_import_each_other_load_once(load_files, order):
    first, second, third = order
    registry = load_files(
        {
            f"{first}.py": f"import functions.{second}\n@fn()\ndef {first}(): ...",
            f"{second}.py": f"import functions.{third}\n@fn()\ndef {second}(): ...",
            f"{third}.py": f"import functions.{first}\n@fn()\ndef {third}(): ...",
        }
    )
    assert (registry.failures, set(registry.functions)) == ((), {"a", "b", "c"})


def test_a_linked_folder_is_named_not_skipped(load_files, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "linked").symlink_to(tmp_path / "elsewhere")
    (failure,) = load_files({}).failures
    assert str(failure) == "functions/linked: not a file inside functions/; put the file itself there, no link, no pipe"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"queue": "a b"}, "functions.toml, [functions.\"broken\"]: @queue('a b'): a name without spaces"),
        ({"auth": "public"}, 'functions.toml sets auth of "broken", which has no route'),
    ],
)
def test_an_override_is_checked_like_the_code(failure_of, setting, message):
    from runtime.base.sections import FunctionSettings

    assert failure_of("@queue('q')  # <-\ndef broken(): ...", FunctionSettings(**setting)).message.startswith(message)
