"""Resources, start-up and shutdown of _lifespan.py, as they are declared; and which parameters they are given to."""

import pytest

from runtime import INJECTED, Context, Header, http
from runtime.base.errors import DeclarationError
from runtime.declare.resources import Opened, resource, shutdown, startup

TYPES = """
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
    from typing import Protocol

    class Pool: ...
    class SqlPool(Pool): ...
    class Config(msgspec.Struct):
        url: str = ""
    class Store(Protocol):
        def get(self) -> None: ...
    """
LIB = "from functions._types import *\n"
TWO = """
    @resource
    def primary() -> Iterator[Pool]:
        yield Pool()

    @resource
    def replica() -> Iterator[Pool]:
        yield Pool()
    """


@pytest.fixture
def load(load_files):
    """Load a _lifespan.py and an app.py, both with the types above."""

    def load(lifespan: str, app: str = ""):
        return load_files({"_types.py": TYPES, "_lifespan.py": _with_types(lifespan), "app.py": _with_types(app)})

    return load


def _with_types(source: str) -> str:
    from textwrap import dedent

    return LIB + dedent(source)


@pytest.fixture
def given(load):
    """What the parameters of `app.handler` are given: the name of a resource, or None."""

    def given(lifespan: str, signature: str, decorator: str = "@fn()") -> dict[str, str | None]:
        registry = load(lifespan, f"{decorator}\ndef handler({signature}): ...")
        assert registry.failures == ()
        return {p.name: p.resource or None for p in registry.functions["app"].parameters}

    return given


@pytest.fixture
def fault(load):
    """Why a _lifespan.py does not load; the line is the one marked `# <-`."""

    def fault(source: str) -> str:
        registry = load(source)
        assert registry.lifespan is None
        failure = registry.failures[0]
        marked = [n for n, line in enumerate(_written(failure.file, registry, source), 1) if "# <-" in line]
        assert (failure.file, failure.line) == ("functions/_lifespan.py", marked[0] if marked else failure.line)
        return failure.message

    return fault


def _written(file, registry, source):
    from tests.declare.conftest import HEADER

    return (HEADER + _with_types(source)).splitlines()


# --- what _lifespan.py says --------------------------------------------------------------------------------------


def test_a_decorator_returns_the_same_function():
    for decorator in (resource, startup, shutdown):

        def one():
            yield

        assert decorator(one) is one


def test_resources_are_in_the_order_they_are_written_and_know_what_they_need(load):
    lifespan = load("""
        @resource
        def config() -> Iterator[Config]:
            yield Config()

        @resource
        async def pool(settings: Config, size: int = 3) -> AsyncIterator[Pool]:
            yield Pool()

        @startup
        async def warm(pool): ...

        @shutdown
        def flush(anything: Pool, config): ...
        """).lifespan
    assert [(r.name, r.type.__name__, dict(r.needs)) for r in lifespan.resources] == [
        ("config", "Config", {}),
        ("pool", "Pool", {"settings": "config"}),
    ]
    assert [(h.name, dict(h.needs)) for h in lifespan.startup] == [("warm", {"pool": "pool"})]
    assert [(h.name, dict(h.needs)) for h in lifespan.shutdown] == [("flush", {"anything": "pool", "config": "config"})]
    assert lifespan.resources[1].place == "functions/_lifespan.py:12"


def test_one_of_another_file_is_imported(load_files):
    db = LIB + "@resource\ndef db() -> Iterator[Pool]:\n    yield Pool()\n"
    lifespan = "from functions._db import db as main_db\n"
    registry = load_files({"_types.py": TYPES, "_db.py": db, "_lifespan.py": lifespan})
    assert [(r.name, r.place) for r in registry.lifespan.resources] == [("main_db", "functions/_db.py:7")]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("@resource\ndef x() -> Iterator[Pool]:\n    yield", "Pool"),
        ("@resource\ndef x() -> 'AsyncIterator[Annotated[Pool, 1]]':\n    yield", "Pool"),
        ("@resource\nasync def x() -> AsyncIterator[Pool | None]:\n    yield", "Pool"),
        ("@resource\n@asynccontextmanager\nasync def x() -> AsyncIterator[Pool]:\n    yield", "Pool"),
        ("@resource\n@contextmanager\ndef x() -> Iterator[Pool]:\n    yield", "Pool"),
        ("@resource\ndef x() -> AbstractAsyncContextManager[Pool]: ...", "Pool"),
        ("@resource\nasync def x():\n    yield", "Any"),
        ("@resource\nasync def x() -> AsyncIterator:\n    yield", "Any"),
    ],
)
def test_its_type_is_what_its_annotation_says_it_yields(load, source, kind):
    (found,) = load(source).lifespan.resources
    assert found.kinds[0].__name__ == kind


FAULTS = [
    pytest.param(
        "@resource  # <-\ndef db():\n    yield\n@resource\ndef db():\n    yield",
        'two resources or hooks are named "db", here and on line 10; rename one',
        id="two-of-one-name",
    ),
    pytest.param(
        "@resource  # <-\ndef db() -> Iterator[Pool]:\n    yield\n@startup\ndef db(): ...",
        'two resources or hooks are named "db", here and on line 10; rename one',
        id="hook-of-its-name",
    ),
    pytest.param(
        "def hide(f): return lambda: f()\n@hide  # <-\n@resource\ndef db():\n    yield",
        "db is declared here, but cannot be found by that name",
        id="hidden",
    ),
    pytest.param(
        "@resource\ndef db() -> Iterator[Pool]:\n    yield\nagain = db",
        '"db" and "again" are one resource; keep one name',
        id="alias",
    ),
    pytest.param(
        "@resource  # <-\ndef db() -> Pool:\n    return Pool()",
        'resource "db": it returns its value; yield it: what stands after the yield closes it',
        id="returns",
    ),
    pytest.param(
        "@resource  # <-\ndef db() -> Pool:\n    yield Pool()",
        'resource "db": its annotation is Pool; a generator returns Iterator[Pool]',
        id="annotation",
    ),
    pytest.param(
        "@resource  # <-\nasync def db() -> Pool:\n    yield Pool()",
        'resource "db": its annotation is Pool; a generator returns AsyncIterator[Pool]',
        id="async-annotation",
    ),
    pytest.param("@resource  # <-\nclass Db: ...", "@resource decorates a function; ", id="class"),
    pytest.param(
        "@startup  # <-\ndef warm():\n    yield",
        'start-up hook "warm": it yields; a @resource does that',
        id="hook-yields",
    ),
    pytest.param(
        "@startup  # <-\n@resource\ndef both():\n    yield", "both is declared twice: @resource and @startup", id="both"
    ),
    pytest.param(
        "@resource  # <-\ndef a(b):\n    yield\n@resource\ndef b():\n    yield",
        'resource "a": it needs "b", which is declared after it; move that up',
        id="later",
    ),
    pytest.param(
        "@resource  # <-\ndef a(x: Pool):\n    yield\n@resource\ndef b() -> Iterator[Pool]:\n    yield",
        'resource "a": it needs "b", which is declared after it; move that up',
        id="later-by-type",
    ),
    pytest.param(
        "@resource  # <-\ndef a(c):\n    yield\n@resource\ndef b(a):\n    yield\n@resource\ndef c(b):\n    yield",
        'resource "a": it and "c" need each other',
        id="cycle",
    ),
    pytest.param(
        "@resource  # <-\ndef a(a):\n    yield", 'resource "a": it needs itself', id="itself"
    ),
    pytest.param(
        "@resource\ndef pool() -> Iterator[Pool]:\n    yield\n@resource  # <-\ndef a(pol):\n    yield",
        'resource "a": no resource has the name or the type of parameter pol; did you mean "pool"?',
        id="unknown",
    ),
    pytest.param(
        "@shutdown  # <-\ndef flush(ctx: Context): ...",
        'shutdown hook "flush": no resource has the name or the type of parameter ctx',
        id="context",
    ),
    pytest.param(
        TWO + "@startup  # <-\n    def warm(pool: Pool): ...",
        'start-up hook "warm": parameter pool: resources "primary" and "replica" have its type; name it as one of them',
        id="ambiguous",
    ),
    pytest.param(
        "@startup  # <-\ndef warm(*pools): ...",
        'start-up hook "warm": parameter *pools: arguments come by name',
        id="args",
    ),
    pytest.param(
        "@resource  # <-\ndef a() -> 'Iterator[Nowhere]':\n    yield",
        'resource "a": the annotation "Nowhere" is not defined when the file runs',
        id="undefined",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("source", "message"), FAULTS)
def test_what_cannot_work_is_named(fault, source, message):
    assert fault(source).startswith(message)


def test_in_a_file_of_functions_they_mean_nothing(load):
    (failure,) = load("", "@resource\ndef db():\n    yield").failures
    assert failure.place == "functions/app.py:7"
    assert failure.message == "db: @resource counts in functions/_lifespan.py alone; move it there"


def test_of_two_of_one_type_each_may_need_the_other_by_name(load):
    lifespan = load("""
        @resource
        def plain() -> Iterator[Pool]:
            yield Pool()

        @resource
        def cached(inner: Pool) -> Iterator[Pool]:
            yield inner

        @resource
        def counted(cached: Pool) -> Iterator[Pool]:
            yield cached
        """).lifespan
    assert [dict(r.needs) for r in lifespan.resources] == [{}, {"inner": "plain"}, {"cached": "cached"}]


# --- whom they are given to --------------------------------------------------------------------------------------

CONFIG = "@resource\ndef config() -> Iterator[Config]:\n    yield Config()"
POOL = "@resource\ndef db() -> Iterator[Pool]:\n    yield Pool()\n"
SQL = "@resource\ndef db() -> Iterator[SqlPool]:\n    yield SqlPool()\n"
UNTYPED = "@resource\ndef db():\n    yield 1\n"
TEXT = "@resource\ndef db() -> Iterator[str]:\n    yield ''\n"


@pytest.mark.parametrize(
    ("lifespan", "signature", "expected"),
    [
        (POOL, "pool: Pool", {"pool": "db"}),
        (POOL, "pool: 'Pool | None' = None, x: int = 1", {"pool": "db", "x": None}),
        (POOL, "pool: Annotated[Optional[Pool], 'x'] = INJECTED", {"pool": "db"}),
        (POOL, "db", {"db": "db"}),
        (POOL, "db: Any", {"db": "db"}),
        (POOL, "db: str", {"db": None}),
        (SQL, "db: Pool", {"db": "db"}),
        (SQL, "db: Store", {"db": "db"}),
        (UNTYPED, "db: Pool", {"db": "db"}),
        (UNTYPED, "db: Context", {"db": None}),
        (UNTYPED, "db: Annotated[str, Header]", {"db": None}),
        (TEXT, "name: str", {"name": None}),
        (TEXT, "db: str", {"db": "db"}),
        (TWO, "replica: Pool", {"replica": "replica"}),
        (CONFIG, "settings: Config", {"settings": "config"}),
        ("", "settings: Config", {"settings": None}),
    ],
)
def test_a_parameter_is_given_the_resource_of_its_type_or_of_its_name(given, lifespan, signature, expected):
    assert given(lifespan, signature) == expected


@pytest.mark.parametrize(
    "decorator",
    ["@http.get", "@http.post", "@queue('x')", "@cron('@daily')", "@at('2030-01-01T00:00:00Z')", "@interval('1m')"],
)
def test_it_takes_part_in_no_trigger(given, decorator):
    assert given(POOL, "db: Pool = INJECTED, ctx: Context = INJECTED", decorator) == {"db": "db", "ctx": None}


@pytest.mark.parametrize(
    ("lifespan", "source", "message"),
    [
        (TWO, "@http.get\ndef f(pool: Pool): ...", 'parameter pool: resources "primary" and "replica" have its type'),
        (SQL, "@http.get\ndef f(pool: Pool): ...", "parameter pool: Pool cannot be read from JSON; use a msgspec."),
        (POOL, "@http.get('/{db}')\ndef f(db): ...", "@http /{db}: parameter db is in the path and a resource; rename"),
        (POOL, "@cron('@daily', payload={'db': 1})\ndef f(db): ...", "@cron: payload has 'db', which the function"),
    ],
)
def test_a_function_that_cannot_have_one_does_not_load(load, lifespan, source, message):
    (failure,) = load(lifespan, source).failures
    assert failure.message.startswith(message)
    assert failure.place == "functions/app.py:7"


def test_one_that_is_missing_is_hinted_at(load):
    (failure,) = load(POOL, "@http.get\ndef f(db: SqlPool): ...").failures
    assert failure.message.endswith(
        'or declare a @resource of that type in functions/_lifespan.py; the resource "db" is Pool'
    )


def test_an_example_may_not_name_one(load):
    source = '@http.post\ndef f(db: Pool, x: int):\n    """Do.\n\n    Example:\n        {"x": 1, "db": 2}\n    """'
    (failure,) = load(POOL, source).failures
    assert "has 'db', which the function does not take" in failure.message


def test_a_saved_file_is_given_them_too(load_files, tmp_path):
    from runtime.declare.loader import Loader

    app = LIB + "from runtime import *\n@http.get\ndef handler(db: Pool): ..."
    load_files({"_types.py": TYPES, "_lifespan.py": LIB + POOL, "app.py": app})
    loader = Loader(tmp_path)
    loader.load()
    path = tmp_path / "functions" / "app.py"
    path.write_text(app.replace("db: Pool", "other: Pool"))
    (parameter,) = loader.reload([path]).functions["app"].parameters
    assert (parameter.name, parameter.resource) == ("other", "db")


# --- ctx.resources -----------------------------------------------------------------------------------------------


def test_what_is_open_is_had_by_name():
    opened = Opened({"db": 1, "items": 2})
    assert (opened["db"], opened.db, opened["items"], dict(opened)) == (1, 1, 2, {"db": 1, "items": 2})
    assert ("db" in opened, "x" in opened, opened.get("x"), len(opened)) == (True, False, None, 2)
    assert repr(opened) == "Opened(db, items)"


def test_what_is_not_says_what_comes_near():
    with pytest.raises(KeyError, match='no resource "dbs" is open; did you mean "db"'):
        Opened({"db": 1})["dbs"]
    with pytest.raises(AttributeError, match='no resource "dbs" is open; did you mean "db"'):
        _ = Opened({"db": 1}).dbs
    with pytest.raises(AttributeError):
        _ = Opened({})._values_of


def test_a_unit_test_calls_a_handler_with_a_fake():
    class Pool: ...

    @http.get
    def handler(db: Pool = INJECTED, agent: Header = "") -> object:
        return db

    fake = Pool()
    assert handler(db=fake) is fake
    assert handler.__name__ == "handler"


def test_a_context_made_by_hand_has_resources():
    from tests.declare.test_context import context

    assert dict(context().resources) == {}
    assert context(resources=Opened({"db": 1})).resources.db == 1
    assert isinstance(context(), Context)


def test_a_decorator_given_no_function_says_so():
    with pytest.raises(DeclarationError, match="@startup decorates a function; 3 is a int"):
        startup(3)
