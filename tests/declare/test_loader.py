import os
import sys
import unicodedata
from pathlib import Path

import pytest

from runtime.base.errors import StartError
from runtime.declare.loader import load

HANDLER = "@http.get\ndef handler(): ...\n"


def test_the_example_functions_load():
    registry = load(Path(__file__).parents[2])
    assert registry.failures == ()
    assert {"sum", "webhook", "countdown", "reports.invoice.total"} <= registry.functions.keys()


def test_a_project_without_a_functions_folder_cannot_start(tmp_path):
    with pytest.raises(StartError, match=r"no functions/ folder in .*; make one and put a file with a function"):
        load(tmp_path)


def test_an_empty_folder_is_an_empty_project(load_files):
    registry = load_files({})
    assert (registry.functions, registry.failures) == ({}, ())


# --- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "function", "name"),
    [
        ("orders.py", "create", "orders.create"),
        ("orders.py", "handler", "orders"),
        ("orders.py", "orders", "orders"),
        ("shop/orders.py", "create", "shop.orders.create"),
        ("shop/orders.py", "orders", "shop.orders"),
        ("shop/orders.py", "shop", "shop.orders.shop"),
        ("daily-report.py", "daily_report", "daily-report"),
        ("daily-report.py", "send", "daily-report.send"),
        ("2fa.py", "handler", "2fa"),
    ],
)
def test_a_function_is_named_after_its_file(load_files, file, function, name):
    registry = load_files({file: f"@http.get\ndef {function}(): ..."})
    assert registry.failures == ()
    assert list(registry.functions) == [name]
    assert registry.get(name).place == f"functions/{file}:6"


def test_only_decorated_functions_are_loaded_and_an_alias_does_not_count_twice(load_files):
    registry = load_files({"a.py": "def helper(): ...\n@http.get\ndef create(): ...\nalias = create\n"})
    assert list(registry.functions) == ["a.create"]


def test_fn_alone_makes_a_function(load_files):
    registry = load_files({"a.py": "@fn(timeout=5)\ndef handler(): ..."})
    assert registry.get("a").triggers == ()
    assert registry.get("a").policy.timeout_seconds == 5


def test_a_function_knows_its_parameters_result_and_first_line(load_files):
    function = load_files(
        {"a.py": '@queue("x")\n@fn(timeout=1)\n@http.post("/x")\ndef handler(a: int) -> str:\n    """Say a."""'}
    ).get("a")
    assert [(p.name, p.type) for p in function.parameters] == [("a", int)]
    assert function.returns is str
    assert function.summary == "Say a."
    assert function.line == 6
    assert [t.line for t in function.triggers] == [6, 8]


def test_a_result_without_annotation_may_be_anything(load_files):
    assert repr(load_files({"a.py": HANDLER}).get("a").returns) == "typing.Any"


def test_a_wrapper_that_keeps_the_name_keeps_the_declaration(load_files):
    registry = load_files(
        {
            "a.py": """
                def doubled(function):
                    @functools.wraps(function)
                    def wrapper(**kwargs):
                        return 2 * function(**kwargs)
                    return wrapper

                @doubled
                @http.get
                def handler(n: int): return n
            """
        }
    )
    assert registry.failures == ()
    assert registry.get("a").call(n=4) == 8
    assert [p.name for p in registry.get("a").parameters] == ["n"]


def test_a_closure_over_a_declared_function_of_another_name_is_fine(load_files):
    registry = load_files(
        {
            "a.py": """
                def caller(function):
                    def call(): return function()
                    def unset(): return later
                    if False:
                        later = 1
                    return call, unset

                @http.get
                def handler(): return 1

                run, unset = caller(handler)
            """
        }
    )
    assert (list(registry.functions), registry.failures) == (["a"], ())


# --- files -------------------------------------------------------------------------------------------------------


def test_files_and_folders_with_an_underscore_are_libraries(load_files):
    registry = load_files(
        {
            "_db.py": "@http.get\ndef handler(): return 1",
            "_lib/deep/money.py": "@http.get\ndef handler(): return 2",
            ".hidden/x.py": HANDLER,
            ".hidden.py": HANDLER,
            "notes.txt": "not Python",
            "a.py": """
                from functions._db import handler as one
                from functions._lib.deep.money import handler as two
                @http.get
                def handler(): return one() + two()
            """,
        }
    )
    assert registry.failures == ()
    assert list(registry.functions) == ["a"]
    assert registry.get("a").call() == 3


def test_a_file_may_import_from_another_function_file(load_files):
    registry = load_files(
        {
            "a.py": "from functions.b import create\n@http.get\ndef handler(): return create()",
            "b.py": "@http.get\ndef create(): return 'made'",
        }
    )
    assert registry.failures == ()
    assert set(registry.functions) == {"a", "b.create"}
    assert registry.get("a").call() == "made"
    assert sys.modules["functions.b"].create is registry.get("b.create").call


def test_a_file_may_stand_beside_a_folder_of_its_name(load_files):
    registry = load_files(
        {
            "orders.py": "LIMIT = 7\n@http.get\ndef handler(): ...",
            "orders/create.py": "from functions.orders import LIMIT\n@http.get\ndef handler(): return LIMIT",
            "orders/archive/sweep.py": HANDLER,
        }
    )
    assert registry.failures == ()
    assert set(registry.functions) == {"orders", "orders.create", "orders.archive.sweep"}
    assert registry.get("orders.create").call() == 7


def test_a_loaded_file_is_an_attribute_of_its_package(load_files):
    load_files({"shop/orders.py": HANDLER})
    assert sys.modules["functions.shop"].orders is sys.modules["functions.shop.orders"]


def test_a_file_with_a_byte_order_mark_loads(load_files):
    registry = load_files({"a.py": b"\xef\xbb\xbffrom runtime import http\n@http.get\ndef handler(): ...\n"})
    assert list(registry.functions) == ["a"]


def test_loading_again_forgets_what_was_there_before(load_files, tmp_path):
    load_files({"a.py": "@http.get\ndef handler(): return 'old'", "b.py": HANDLER})
    (tmp_path / "functions" / "b.py").unlink()
    registry = load_files({"a.py": "@http.get\ndef handler(): return 'newer'"})
    assert list(registry.functions) == ["a"]
    assert registry.get("a").call() == "newer"
    assert "functions.b" not in sys.modules
    assert sys.path.count(str(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("a.b.py", "a.b"),
        ("ünïcode.py", "ünïcode"),
        ("two words.py", "two words"),
        ("-dash.py", "-dash"),
        ("bad.folder/a.py", "bad.folder"),
        ("a.py/b.py", "a.py"),
    ],
)
def test_a_file_name_that_is_no_function_name_is_refused(load_files, file, part):
    registry = load_files({file: HANDLER, "z.py": HANDLER})
    assert list(registry.functions) == ["z"]
    assert [str(failure) for failure in registry.failures] == [
        f"functions/{file}: {part!r} cannot be part of a function's name; use letters, digits, _ and -"
    ]


def test_names_that_look_alike_are_both_refused(load_files):
    composed, apart = (unicodedata.normalize(form, "é") + ".py" for form in ("NFC", "NFD"))
    registry = load_files({composed: HANDLER, apart: HANDLER})
    assert registry.functions == {}
    assert {failure.file for failure in registry.failures} == {f"functions/{composed}", f"functions/{apart}"}


def test_a_link_out_of_the_folder_is_refused(load_files, tmp_path):
    (tmp_path / "outside.py").write_text("raise RuntimeError('was run')")
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "out.py").symlink_to(tmp_path / "outside.py")
    (tmp_path / "functions" / "dangling.py").symlink_to(tmp_path / "nowhere.py")
    registry = load_files({"a.py": HANDLER})
    assert list(registry.functions) == ["a"]
    assert [str(failure) for failure in registry.failures] == [
        "functions/dangling.py: not a file inside functions/; put the file itself there, no link, no pipe",
        "functions/out.py: not a file inside functions/; put the file itself there, no link, no pipe",
    ]


def test_a_link_inside_the_folder_is_fine(load_files, tmp_path):
    """As a mounted ConfigMap of Kubernetes has them."""
    (tmp_path / "functions" / "..data").mkdir(parents=True)
    (tmp_path / "functions" / "a.py").symlink_to(Path("..data", "a.py"))
    registry = load_files({"..data/a.py": HANDLER})
    assert (list(registry.functions), registry.failures) == (["a"], ())


@pytest.mark.timeout(5)
def test_a_pipe_does_not_hang_the_start(load_files, tmp_path):
    (tmp_path / "functions").mkdir()
    os.mkfifo(tmp_path / "functions" / "x.py")
    registry = load_files({"a.py": HANDLER})
    assert list(registry.functions) == ["a"]
    assert [failure.file for failure in registry.failures] == ["functions/x.py"]


# --- files that fail ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("def handler(:  # <-", "SyntaxError: invalid syntax", id="syntax"),
        pytest.param("if True:\nx = 1  # <-", "SyntaxError: expected an indented block", id="indentation"),
        pytest.param("import nowhere  # <-", "ModuleNotFoundError: No module named 'nowhere'", id="import"),
        pytest.param("from runtime import nothing  # <-", "ImportError: cannot import name 'nothing'", id="name"),
        pytest.param("def f():\n    1 / 0  # <-\nf()", "ZeroDivisionError: division by zero", id="raises"),
        pytest.param("raise ValueError  # <-", "ValueError", id="raises-without-words"),
        pytest.param(
            "import sys\nsys.exit(3)  # <-",
            "the file ends the process when imported (sys.exit); move that into a function",
            id="exit",
        ),
    ],
)
def test_a_file_that_fails_disables_itself_alone(failure_of, source, message):
    failure = failure_of(source)
    assert failure.message.startswith(message)
    assert failure.message.isascii()
    assert "broken.py" in failure.traceback
    assert failure.traceback.startswith("Traceback") or "Error: " in failure.traceback
    assert "functions.broken" not in sys.modules


@pytest.mark.parametrize("content", [b"# coding: nonsense\n", b"x = 1\0\n"], ids=["encoding", "null"])
def test_a_file_that_is_no_text_has_no_line(load_files, content):
    registry = load_files({"broken.py": content})
    assert [failure.place for failure in registry.failures] == ["functions/broken.py"]
    assert registry.failures[0].message.startswith("SyntaxError: ")


def test_a_file_that_imports_a_broken_file_fails_where_it_imports_it(load_files):
    registry = load_files({"a.py": "from functions.b import x", "b.py": "def broken(:"})
    assert [failure.place for failure in registry.failures] == ["functions/a.py:6", "functions/b.py:6"]


def test_a_broken_package_fails_the_files_in_it(load_files):
    registry = load_files({"shop/__init__.py": "1 / 0", "shop/orders.py": HANDLER, "a.py": HANDLER})
    assert list(registry.functions) == ["a"]
    assert [str(failure) for failure in registry.failures] == [
        "functions/shop/orders.py: ZeroDivisionError: division by zero"
    ]


def test_an_interrupt_ends_the_load(load_files):
    with pytest.raises(KeyboardInterrupt):
        load_files({"a.py": "raise KeyboardInterrupt"})
    assert "functions.a" not in sys.modules
