"""Loading again what changed: that file, what imports it, and nothing else."""

import sys
import threading
from pathlib import Path

import pytest

from runtime.base.sections import FunctionSettings
from runtime.declare.loader import Loader


class Folder:
    """A functions/ folder under change, and what is loaded of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.loader = Loader(root)
        self.registry = None

    def write(self, **files: str | None) -> list[Path]:
        paths = []
        for name, source in files.items():
            path = self.root / "functions" / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if source is not None:
                path.write_text("from runtime import *\n" + source)
            paths.append(path)
        return paths

    def load(self, **files: str):
        self.write(**files)
        self.registry = self.loader.load()
        return self.registry

    def save(self, **files: str | None):
        self.registry = self.loader.reload(self.write(**files))
        return self.registry

    def call(self, name: str):
        return self.registry.functions[name].call()


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path)


def returning(value: object, path: str = "") -> str:
    return (
        f"@http.get({path!r})\ndef handler(): return {value!r}\n"
        if path
        else f"@http.get\ndef handler(): return {value!r}\n"
    )


def test_the_changed_file_alone_is_imported_anew(folder):
    before = folder.load(a=returning(1), b=returning("b"))
    after = folder.save(a=returning(2))
    assert folder.call("a") == 2
    assert after.functions["b"] is before.functions["b"]


def test_so_is_whatever_imports_it_in_any_way(folder):
    folder.load(
        _lib="X = 1\n",
        _between="from . import _lib\ndef x(): return _lib.X\n",
        a="from functions._lib import X\n@http.get\ndef handler(): return X\n",
        b="import functions._lib\n@http.get\ndef handler(): return functions._lib.X\n",
        c="from functions import _between\n@http.get\ndef handler(): return _between.x()\n",
        sub__d="from .._lib import X\n@http.get\ndef handler(): return X\n",
        e="@http.get\ndef handler():\n    from functions import _lib\n    return _lib.X\n",
        f=returning(1),
    )
    unrelated = folder.registry.functions["f"]
    folder.save(_lib="X = 2\n")
    assert {name: folder.call(name) for name in ("a", "b", "c", "sub.d", "e")} == dict.fromkeys(
        ("a", "b", "c", "sub.d", "e"), 2
    )
    assert folder.registry.functions["f"] is unrelated


def test_state_of_a_library_that_did_not_change_stays(folder):
    folder.load(_state="seen = []\n", a="from functions._state import seen\n@http.get\ndef handler(): return seen\n")
    folder.call("a").append(1)
    folder.save(a="from functions._state import seen\n@http.get\ndef handler(): return [*seen, 2]\n")
    assert folder.call("a") == [1, 2]


@pytest.mark.parametrize(
    "broken",
    ["def (\n", "raise OSError('no')\n", "import sys; sys.exit(1)\n", "@http.get('bad')\ndef handler(): ...\n"],
)
def test_the_last_good_version_serves_while_the_new_one_fails(folder, broken):
    folder.load(a=returning(1), b=returning("b"))
    good = folder.registry.functions["a"]
    for _ in range(2):
        folder.save(a=broken)
        assert folder.registry.functions["a"] is good
        (failure,) = folder.registry.failures
        assert (failure.file, failure.serves_last) == ("functions/a.py", True)
    folder.save(a=returning(3))
    assert (folder.call("a"), folder.registry.failures) == (3, ())


def test_a_broken_library_leaves_its_importers_as_they_were(folder):
    folder.load(_lib="X = 1\n", a="from functions import _lib\n@http.get\ndef handler(): return _lib.X\n")
    folder.save(_lib="def (\n")
    assert folder.call("a") == 1
    assert [failure.file for failure in folder.registry.failures] == ["functions/a.py", "functions/_lib.py"]
    assert sys.modules["functions._lib"].X == 1
    assert sys.modules["functions"]._lib.X == 1
    folder.save(_lib="X = 2\n")
    assert (folder.call("a"), folder.registry.failures) == (2, ())


def test_a_file_that_failed_at_the_start_has_nothing_to_serve_and_mends(folder):
    folder.load(a="def (\n", b="from functions._lib import X\n@http.get\ndef handler(): return X\n")
    assert [failure.serves_last for failure in folder.registry.failures] == [False, False]
    folder.save(a=returning(1))
    folder.save(_lib="X = 5\n")
    assert (folder.call("a"), folder.call("b"), folder.registry.failures) == (1, 5, ())


def test_new_and_removed_files(folder):
    folder.load(a=returning(1))
    folder.save(b=returning(2))
    assert set(folder.registry.functions) == {"a", "b"}
    folder.save(a=None)
    assert set(folder.registry.functions) == {"b"}
    assert "functions.a" not in sys.modules


def test_a_removed_library_fails_its_importers_which_serve_on(folder):
    folder.load(_lib="X = 1\n", a="from functions._lib import X\n@http.get\ndef handler(): return X\n")
    folder.save(_lib=None)
    assert folder.call("a") == 1
    assert "No module named 'functions._lib'" in folder.registry.failures[0].message


def test_a_route_taken_by_a_later_save_fails_there_and_the_old_route_stays(folder):
    folder.load(a=returning(1, "/a"), b=returning(2, "/b"))
    folder.save(b=returning(3, "/a"))
    assert folder.call("b") == 2
    assert "already answered by" in folder.registry.failures[0].message
    folder.save(a=returning(1, "/c"))
    assert (folder.call("b"), folder.registry.failures) == (3, ())


def test_the_order_of_files_decides_as_at_a_start(folder):
    folder.load(b=returning("b", "/same"))
    folder.save(a=returning("a", "/same"))
    assert set(folder.registry.functions) == {"a"} == set(folder.loader.load().functions)


def test_a_file_of_another_kind_loads_everything_anew(folder):
    looks = "from pathlib import Path\nT = Path(__file__).with_name('t.txt').exists()\n"
    folder.load(a=looks + "@http.get\ndef handler(): return T\n")
    (folder.root / "functions" / "t.txt").write_text("x")
    folder.registry = folder.loader.reload([folder.root / "functions" / "t.txt"])
    assert folder.call("a") is True


@pytest.mark.parametrize("name", ["_lifespan", "_lib"])
def test_what_reaches_the_lifespan_asks_for_a_new_process(folder, name):
    folder.load(_lib="X = 1\n", _lifespan="from functions import _lib\n", a=returning(1))
    assert folder.save(**{name: "X = 2\n"}) is None


def test_what_does_not_reach_it_does_not(folder):
    folder.load(_lifespan="middleware = []\n", a=returning(1))
    assert folder.save(a=returning(2)).functions["a"].call() == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("middleware = 3\n", "`middleware` is a list here"),
        ("middleware = [3]\n", "3 is no middleware: give its class"),
        ("exception_handlers = []\n", "`exception_handlers` is a mapping here"),
        ("exception_handlers = {404: print}\n", "404 is no class of exceptions"),
        ("exception_handlers = {OSError: 3}\n", "3 does not take (request, error)"),
        ("exception_handlers = {OSError: lambda: 3}\n", "does not take (request, error)"),
        ("middlewares = []\n", "'middlewares' means nothing here; did you mean"),
        ("def (\n", "SyntaxError"),
    ],
)
def test_a_lifespan_that_cannot_be_is_named_and_leaves_none(folder, source, message):
    registry = folder.load(_lifespan=source, a=returning(1))
    assert registry.lifespan is None
    assert registry.failures[0].file == "functions/_lifespan.py"
    assert message in registry.failures[0].message


def test_an_override_of_a_file_that_fails_is_no_second_failure(folder):
    folder.loader = Loader(folder.root, {"a": FunctionSettings(), "a.x": FunctionSettings(), "ab": FunctionSettings()})
    folder.load(a="def (\n")
    assert [failure.file for failure in folder.registry.failures] == ["functions/a.py", "functions.toml"]
    assert 'functions."ab"' in folder.registry.failures[1].message


def test_the_traceback_begins_in_the_authors_file(folder):
    folder.load(a="def f(): raise OSError('no')\nf()\n")
    lines = folder.registry.failures[0].traceback.splitlines()
    assert lines[1].lstrip().startswith(f'File "{folder.root}/functions/a.py", line 3')
    assert lines[-1] == "OSError: no"


def test_a_hundred_good_and_broken_saves_leave_no_module_behind(folder):
    folder.load(_lib="X = 0\n", a="from functions._lib import X\n@http.get\ndef handler(): return X\n")
    modules = {name for name in sys.modules if name.startswith("functions")}
    for number in range(100):
        folder.save(_lib=f"X = {number}\n" if number % 2 else "def (\n")
        assert folder.call("a") == (number if number % 2 else max(0, number - 1))
    assert {name for name in sys.modules if name.startswith("functions")} == modules


def test_a_file_that_is_emptied_before_it_is_filled_is_waited_for(folder):
    folder.load(a=returning(1))
    path = folder.root / "functions" / "a.py"
    path.write_text("")
    filler = threading.Timer(0.03, lambda: path.write_text("from runtime import *\n" + returning(2)))
    filler.start()
    folder.registry = folder.loader.reload([path])
    filler.join()
    assert folder.call("a") == 2


def test_one_that_stays_empty_has_no_functions(folder):
    folder.load(a=returning(1))
    (folder.root / "functions" / "a.py").write_text("")
    assert folder.loader.reload([folder.root / "functions" / "a.py"]).functions == {}


def test_a_save_during_the_load_is_loaded_too(folder):
    folder.load(a=returning(1))
    path = folder.root / "functions" / "a.py"
    later = "from runtime import *\n" + returning(3)
    again = f"import pathlib; pathlib.Path({str(path)!r}).write_text({later!r})\n"
    folder.save(a=again + returning(2))
    assert folder.call("a") == 3


LAZY = "@http.get\ndef handler():\n    from functions._late import Z\n    return Z\n"


def test_a_library_that_only_handlers_import_is_taken_up(folder):
    folder.load(_late="Z = 1\n", a=LAZY)
    assert folder.call("a") == 1
    folder.save(_late="Z = 2\n")
    assert folder.call("a") == 2


def test_its_faults_are_told_and_the_last_good_one_serves(folder):
    folder.load(_late="Z = 1\n", a=LAZY)
    assert folder.call("a") == 1
    folder.save(_late="Z =\n")
    assert folder.call("a") == 1
    (failure,) = folder.registry.failures
    assert (failure.file, failure.serves_last) == ("functions/_late.py", True)
    folder.save(_late="Z = 3\n")
    assert (folder.call("a"), folder.registry.failures) == (3, ())


@pytest.mark.parametrize("base", ["KeyboardInterrupt", "BaseException", "asyncio.CancelledError", "GeneratorExit"])
def test_whatever_a_file_raises_it_disables_itself_alone(folder, base):
    folder.load(a=returning(1), b=returning(2))
    path = folder.write(a=f"import asyncio\nclass Odd({base}): pass\nraise Odd('x')\n")
    loading = threading.Thread(target=lambda: setattr(folder, "registry", folder.loader.reload(path)))
    loading.start()
    loading.join()
    assert (folder.call("a"), folder.call("b")) == (1, 2)
    assert folder.registry.failures[0].message == "Odd: x"
