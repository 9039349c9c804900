"""`@fn(on_failure=...)`: a function or its name, which has to be there and to take the news."""

import sys

import pytest

from runtime.declare.loader import Loader

TAKES_ALL = "@fn()\ndef handler(run_id: str, function: str, reason: str, error: str, arguments: dict): ...\n"
NAMES_IT = '@fn(on_failure="alert")\ndef handler(): ...\n'


def test_a_name_or_a_function_is_taken(load_files):
    by_function = "from functions.alert import handler as alert\n@fn(on_failure=alert)\ndef handler(): ...\n"
    own = "@fn()\ndef alert(reason='', ctx: Context = INJECTED): ...\n@fn(on_failure=alert)\ndef work(): ...\n"
    registry = load_files({"alert.py": TAKES_ALL, "a.py": NAMES_IT, "b.py": by_function, "c.py": own})
    assert registry.failures == ()
    assert {one.name: one.on_failure for one in registry.functions.values() if one.on_failure} == {
        "a": "alert",
        "b": "alert",
        "c.work": "c.alert",
    }


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ('@fn(on_failure="wel")  # <-\ndef handler(): ...', 'there is no such function; did you mean "well"?'),
        ('@fn(on_failure="zzzzz")  # <-\ndef handler(): ...', "write the name of a function, or the function itself"),
        (
            "def alert(): ...\n@fn(on_failure=alert)  # <-\ndef handler(): ...",
            "@fn(on_failure='alert'): no function of functions/ with a decorator; write @fn or @queue above it",
        ),
        ("@fn(on_failure=print)  # <-\ndef handler(): ...", "no function of functions/ with a decorator"),
        (
            "@fn()\ndef alert(run_id, sku, n): ...\n@fn(on_failure=alert)  # <-\ndef handler(): ...",
            "broken.alert requires sku, n, and is given arguments, error, function, reason, run_id; give the others",
        ),
        (
            "@http.get\ndef alert():\n    yield 1\n@fn(on_failure=alert)  # <-\ndef handler(): ...",
            "broken.alert streams, and nobody would read it",
        ),
        (
            '@fn(on_failure="broken")  # <-\ndef handler(): ...',
            '@fn(on_failure="broken"): goes round in a circle, broken -> broken; let the last one fail alone',
        ),
        (
            '@fn(on_failure="broken.b")  # <-\ndef a(): ...\n@fn(on_failure="broken.a")\ndef b(): ...',
            "goes round in a circle, broken.a -> broken.b -> broken.a",
        ),
    ],
)
def test_one_that_cannot_be_run_is_a_load_error(failure_of, source, says):
    assert says in failure_of(source).message


def test_a_file_at_fault_takes_those_along_that_name_it(load_files):
    chain = '@fn(on_failure="a")\ndef handler(reason=""): ...\n'
    registry = load_files({"a.py": '@fn(on_failure="nobody")\ndef handler(): ...', "b.py": chain, "well.py": TAKES_ALL})
    assert set(registry.functions) == {"well"}
    assert [failure.file for failure in registry.failures] == ["functions/a.py", "functions/b.py"]


def test_what_the_runtime_gives_is_no_argument(load_files):
    lifespan = "class Pool: ...\n@resource\ndef pool() -> Iterator[Pool]:\n    yield Pool()\n"
    lifespan = "from collections.abc import Iterator\n" + lifespan
    alert = "from functions._lifespan import Pool\n@fn()\ndef handler(ctx: Context, reason: str, pool: Pool): ...\n"
    assert load_files({"_lifespan.py": lifespan, "alert.py": alert, "a.py": NAMES_IT}).failures == ()


def test_the_last_good_version_serves_on_while_its_target_is_gone(load_files, tmp_path):
    load_files({"alert.py": TAKES_ALL, "a.py": NAMES_IT})
    loader = Loader(tmp_path)
    assert loader.load().failures == ()
    alert = tmp_path / "functions" / "alert.py"
    source = alert.read_text()
    alert.unlink()
    registry = loader.reload([alert])
    assert registry is not None
    assert [(f.file, f.serves_last) for f in registry.failures] == [("functions/a.py", True)]
    assert set(registry.functions) == {"a"}
    alert.write_text(source)
    registry = loader.reload([alert])
    assert registry is not None
    assert registry.failures == ()
    assert set(registry.functions) == {"a", "alert"}
    assert "functions.alert" in sys.modules
