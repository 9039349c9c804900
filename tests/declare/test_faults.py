"""Declarations that cannot work, as whoever runs `fnrun check` reads of them."""

import pytest

ANNOTATIONS = [
    pytest.param(
        '@http.post("/x")  # <-\ndef f(order: "Order"): ...',
        'the annotation "Order" is not defined when the file runs; import it outside `if TYPE_CHECKING`',
        id="undefined",
    ),
    pytest.param(
        'if TYPE_CHECKING:\n    from decimal import Decimal\n@http.get  # <-\ndef f(price: "Decimal"): ...',
        'the annotation "Decimal" is not defined when the file runs; import it outside `if TYPE_CHECKING`',
        id="type-checking",
    ),
    pytest.param(
        '@http.get  # <-\ndef f(price: "msgspec.Nothing"): ...',
        "an annotation cannot be read: module 'msgspec' has no attribute 'Nothing'",
        id="attribute",
    ),
    pytest.param(
        '@http.get  # <-\ndef f(prices: "list["): ...',
        "an annotation cannot be read: Forward reference must be an expression -- got 'list['",
        id="no-expression",
    ),
    pytest.param(
        '@http.get  # <-\ndef f(price: "int | 5"): ...',
        "an annotation cannot be read: unsupported operand",
        id="no-union",
    ),
    pytest.param(
        "@http.get  # <-\ndef f(price: 5): ...",
        "parameter price: Type '5' is not supported",
        id="no-type",
    ),
    pytest.param(
        "class Order: ...\n@http.post  # <-\ndef f(order: Order): ...",
        "parameter order: Order cannot be read from JSON; use a msgspec.Struct, a dataclass, a TypedDict or a plain "
        "type",
        id="class",
    ),
    pytest.param(
        "class Sku: ...\nclass Order(msgspec.Struct):\n    skus: dict[str, list[Sku]]\n"
        "@http.post  # <-\ndef f(orders: list[Order]): ...",
        "parameter orders: Sku cannot be read from JSON; use a msgspec.Struct",
        id="class-inside",
    ),
    pytest.param(
        "class Order(msgspec.Struct):\n    sku: 'Sku'\n@http.post  # <-\ndef f(order: Order): ...",
        "parameter order: name 'Sku' is not defined",
        id="undefined-inside",
    ),
    pytest.param(
        "class A(msgspec.Struct):\n    x: int\nclass B(msgspec.Struct):\n    x: int\n"
        "@http.post  # <-\ndef f(either: A | B): ...",
        "parameter either: If a type union contains multiple Struct types, all Struct types must be tagged",
        id="untagged",
    ),
    pytest.param(
        "from starlette.requests import Request as Theirs\n@http.get  # <-\ndef f(request: Theirs): ...",
        "parameter request: for the request, annotate it with runtime.Request",
        id="starlette",
    ),
    pytest.param(
        "@http.get  # <-\ndef f(x: Annotated[str, Header, Query]): ...",
        "parameter x: one of Query, Header, Cookie, Body; there are 2",
        id="two-markers",
    ),
]

SIGNATURES = [
    pytest.param(
        "@http.get  # <-\ndef f(*ids: int): ...",
        "parameter *ids: int: arguments come by name; declare each, or take a dict",
        id="args",
    ),
    pytest.param(
        "@http.get  # <-\ndef f(**rest): ...",
        "parameter **rest: arguments come by name; declare each, or take a dict",
        id="kwargs",
    ),
    pytest.param(
        "@http.get  # <-\ndef f(a, /, b): ...",
        "parameter a: arguments come by name; remove the / from the signature",
        id="positional-only",
    ),
]

BODIES = [
    pytest.param(
        '@http.get("/x")  # <-\ndef f(order: dict): ...',
        "@http GET /x: parameter order is read from the body, and a GET has none; use @http.post, or take plain values "
        "from the query",
        id="body-on-get",
    ),
    pytest.param(
        '@http("/x", methods=["POST", "HEAD"])  # <-\ndef f(orders: list[dict]): ...',
        "@http HEAD /x: parameter orders is read from the body, and a HEAD has none",
        id="body-on-head",
    ),
    pytest.param(
        '@http.post("/x")  # <-\ndef f(a: Annotated[bytes, Body], b: Annotated[dict, Body]): ...',
        "@http /x: parameter a is the whole body; b cannot be read from it too",
        id="two-whole-bodies",
    ),
    pytest.param(
        '@http.post("/x")  # <-\ndef f(a: dict, b: Annotated[str, Body]): ...',
        "@http /x: parameter b is the whole body; a cannot be read from it too",
        id="whole-body-and-object",
    ),
    pytest.param(
        '@http.get("/x")  # <-\ndef f(where: Annotated[dict, Query]): ...',
        "@http /x: parameter where: a query holds plain values and lists of them",
        id="object-in-query",
    ),
    pytest.param(
        '@http.get("/x")  # <-\ndef f(where: Annotated[list[dict], Header]): ...',
        "@http /x: parameter where: a header holds plain values and lists of them",
        id="objects-in-header",
    ),
]

PATHS = [
    pytest.param(
        '@http.get("/c/{customer}")  # <-\ndef f(custmer: str): ...',
        '@http /c/{customer}: the function takes no parameter customer; did you mean "custmer"?',
        id="not-in-signature-but-near",
    ),
    pytest.param(
        '@http.get("/c/{customer}")  # <-\ndef f(): ...',
        "@http /c/{customer}: the function takes no parameter customer; add a parameter of that name",
        id="not-in-signature",
    ),
    pytest.param(
        '@http.get("/{a}/{a}")  # <-\ndef f(a): ...',
        "@http /{a}/{a}: the parameter {a} stands twice",
        id="twice",
    ),
    pytest.param(
        '@http.get("/{a:integer}")  # <-\ndef f(a): ...',
        "@http /{a:integer}: '{a:integer}': unknown converter 'integer'",
        id="converter",
    ),
    pytest.param(
        '@http.get("/v{a}")  # <-\ndef f(a): ...',
        """@http /v{a}: 'v{a}': a parameter fills a whole segment, "/{name}/" for instance""",
        id="part-of-a-segment",
    ),
    pytest.param(
        '@http.get("orders")  # <-\ndef f(): ...',
        """@http: path 'orders' does not start with "/\"""",
        id="no-slash",
    ),
    pytest.param(
        '@http.get("/_/health")  # <-\ndef f(): ...',
        "@http /_/health: paths under /_/ are the runtime's own; choose another",
        id="reserved",
    ),
    pytest.param(
        '@http.get("/{ids}")  # <-\ndef f(ids: list[int]): ...',
        "@http /{ids}: path parameter ids takes one plain value",
        id="several-values",
    ),
    pytest.param(
        '@http.get("/{a}")  # <-\ndef f(a: Annotated[str, Query]): ...',
        "@http /{a}: parameter a is in the path; take Query off, or rename one",
        id="marked",
    ),
]

ROUTES = [
    pytest.param(
        '@http("/x", methods=["FETCH"])  # <-\ndef f(): ...',
        "@http: unknown method 'FETCH'; there are GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        id="method",
    ),
    pytest.param(
        '@http.get("/x", status=404)  # <-\ndef f(): ...',
        "@http(status=404): the status of a success, 200 to 299",
        id="status",
    ),
    pytest.param(
        '@http.get("/x", auth="open")  # <-\ndef f(): ...',
        "@http(auth='open'): one of public, key, signed",
        id="auth",
    ),
    pytest.param(
        '@http.get("/x", auth="signed")  # <-\ndef f(): ...',
        'GET /x of broken.f is auth="signed", and there is no secret: set [signing] secrets, or [functions."broken.f"]',
        id="signed",
    ),
    pytest.param(
        '@http.get("/x")  # <-\ndef f(tick: Tick): ...',
        "@http /x cannot supply parameter tick (tick); give it a default of None",
        id="tick",
    ),
]

QUEUES = [
    pytest.param(
        '@http.post("/x")\n@queue("x")  # <-\ndef f(request: Request): ...',
        "@queue cannot supply parameter request (request); give it a default of None",
        id="request-under-queue",
    ),
    pytest.param(
        '@queue("x")  # <-\ndef f(tick: Tick = INJECTED): ...',
        "@queue cannot supply parameter tick (tick); give it a default of None",
        id="tick-under-queue",
    ),
    pytest.param(
        '@queue("x")  # <-\ndef f():\n    yield',
        '@queue: a generator streams to an HTTP caller; queue "x" has none to stream to',
        id="generator-under-queue",
    ),
    pytest.param(
        '@interval("5m")  # <-\nasync def f():\n    yield',
        "@interval: a generator streams to an HTTP caller; every 300 s has none to stream to",
        id="generator-under-interval",
    ),
]

SCHEDULES = [
    pytest.param(
        '@cron("@daily")  # <-\ndef f(customer: str): ...',
        "@cron cannot supply parameter customer; give it a default, or write payload={'customer': ...}",
        id="parameter-under-cron",
    ),
    pytest.param(
        '@interval("5m")  # <-\ndef f(customer: str): ...',
        "@interval cannot supply parameter customer; give it a default, or write payload={'customer': ...}",
        id="parameter-under-interval",
    ),
    pytest.param(
        '@at("2030-01-01T00:00Z")  # <-\ndef f(customer: str): ...',
        "@at cannot supply parameter customer; give it a default, or write payload={'customer': ...}",
        id="parameter-under-at",
    ),
    pytest.param(
        '@cron("@daily")  # <-\ndef f(request: Request): ...',
        "@cron cannot supply parameter request (request); give it a default of None",
        id="request-under-cron",
    ),
    pytest.param(
        '@http.post("/x")\n@cron("@daily", payload={"days": "seven"})  # <-\ndef f(days: int): ...',
        "@cron: payload does not fit the function: Expected `int`, got `str` - at `$.days`",
        id="payload-of-wrong-type",
    ),
    pytest.param(
        '@cron("@daily", payload={"dasy": 7})  # <-\ndef f(days: int = 1): ...',
        "@cron: payload has 'dasy', which the function does not take; did you mean \"days\"?",
        id="payload-of-unknown-name",
    ),
]

OTHERS = [
    pytest.param(
        '@http.get("/x")  # <-\nclass F: ...',
        "@http decorates a function; <class 'functions.broken.F'> is a type",
        id="class",
    ),
    pytest.param(
        "@http.get  # <-\nclass F: ...",
        "@http decorates a function; <class 'functions.broken.F'> is a type",
        id="class-without-path",
    ),
    pytest.param(
        "@fn(timeout=1)  # <-\n@fn(concurrency=1)\ndef f(): ...",
        "@fn stands twice, also on line 7; write one",
        id="fn-twice",
    ),
    pytest.param(
        "def audited(function):\n    def wrapper(*args):\n        return function(*args)\n    return wrapper\n"
        "@audited  # <-\n@http.get\ndef f(): ...",
        "f is declared here, but cannot be found by that name: it was defined again, it is no `def` of the "
        "file itself, or a decorator above hides it (write @functools.wraps in that)",
        id="hidden-by-a-closure",
    ),
    pytest.param(
        "@http.get  # <-\ndef f(): ...\n@http.get('/y')\ndef f(): ...",
        "f is declared here, but cannot be found by that name: it was defined again",
        id="defined-twice",
    ),
    pytest.param(
        "class C:\n    @http.get  # <-\n    def f(self): ...",
        "C.f is declared here, but cannot be found by that name",
        id="method",
    ),
    pytest.param(
        "f = http.get('/x')(lambda: 1)  # <-",
        "<lambda> is declared here, but cannot be found by that name",
        id="lambda",
    ),
    pytest.param("@fn(key=5)  # <-\ndef f(): ...", "@fn(key=5): write a parameter's name or a function", id="key"),
    pytest.param("@fn(idempotent='x')  # <-\ndef f(): ...", "@fn(idempotent='x'): write a function", id="idempotent"),
    pytest.param(
        "@fn(idempotent=lambda sku, nr: sku)  # <-\ndef f(sku: str, number: int): ...",
        "@fn(idempotent=...): nr is no parameter of the function; there are: sku, number",
        id="idempotent-name",
    ),
    pytest.param(
        "@fn(idempotent=lambda ctx: 1)  # <-\ndef f(sku: str, ctx: Context): ...",
        "@fn(idempotent=...): ctx is supplied by the runtime, and no argument",
        id="idempotent-injected",
    ),
    pytest.param(
        "async def key(sku): ...\n@fn(idempotent=key)  # <-\ndef f(sku: str): ...",
        "@fn(idempotent=...): a plain function makes the key at once; no async, no yield",
        id="idempotent-async",
    ),
    pytest.param(
        "@fn(idempotent=lambda *args: args)  # <-\ndef f(sku: str): ...",
        "@fn(idempotent=...): arguments come by name, and *args does not take one",
        id="idempotent-args",
    ),
    pytest.param(
        "@http.get  # <-\n@fn(idempotent=lambda sku: sku)\ndef f(sku: str):\n    yield sku",
        "@fn(idempotent=...): a stream cannot be kept for the calls after it; return a list",
        id="idempotent-stream",
    ),
    pytest.param(
        '@http.get  # <-\n@fn(isolation="process")\ndef f():\n    yield 1',
        '@fn(isolation="process"): a stream does not leave its process; return a list',
        id="isolated-stream",
    ),
    pytest.param(
        '@http.get  # <-\n@fn(isolation="process")\ndef f(request: Request): ...',
        '@fn(isolation="process"): request is a Request, which stays in the process that has its connection; take',
        id="isolated-request",
    ),
    pytest.param(
        '@http.post  # <-\n@fn(isolation="process")\ndef f(file: UploadFile): ...',
        '@fn(isolation="process"): file is an UploadFile, which stays in the process that has its connection; take',
        id="isolated-upload",
    ),
    pytest.param(
        "@functools.cache  # <-\n@http.get\ndef f(): ...",
        "f is declared here, but cannot be found by that name: it was defined again, ",
        id="hidden-by-a-cache",
    ),
]


@pytest.mark.parametrize(
    ("source", "message"), [*ANNOTATIONS, *SIGNATURES, *BODIES, *PATHS, *ROUTES, *QUEUES, *SCHEDULES, *OTHERS]
)
def test_a_declaration_that_cannot_work_names_the_thing_the_fault_and_the_fix(failure_of, source, message):
    failure = failure_of(source)
    assert failure.message.startswith(message)
    assert failure.traceback == ""


@pytest.mark.parametrize(
    ("decorator", "message"),
    [
        ("cron('61 * * * *')", "@cron('61 * * * *'): bad minute '61' (from 0 to 59); five fields: minute hour day"),
        ("cron('0 0 31 2 *')", "@cron('0 0 31 2 *'): no month 2 has a day 31; five fields"),
        ("cron('0 6 * * mon-fri 30')", "@cron('0 6 * * mon-fri 30'): bad month; the second stands first, write"),
        ("cron('@foo')", "@cron('@foo'): no such alias; there are @hourly, @daily, "),
        ("cron('')", "@cron(''): 0 field(s); five fields"),
        ("cron('@daily', tz='Europe/Pari')", "unknown time zone 'Europe/Pari'; write an IANA name, \"Europe/Paris\""),
        ("interval(0)", '@interval(every=0): 0 is not a duration above zero; write "30s", "1h30m"'),
        ("interval(1e12)", "@interval(every=1000000000000.0): 1000000000000.0 is longer than 100 years"),
        ("interval('abc')", "@interval(every='abc'): 'abc' is not a duration above zero; write"),
        ("at('2030-01-01T00:00')", "@at('2030-01-01T00:00'): a date with an offset, \"2030-01-01T02:00:00+00:00\""),
        ("queue('two words')", "@queue('two words'): a name without spaces, @queue(\"orders\") for instance"),
        ("fn(timout=1)", "@fn: unknown option 'timout'; did you mean \"timeout\"?"),
    ],
)
def test_a_bad_option_is_found_at_the_line_of_its_decorator(failure_of, decorator, message):
    assert failure_of(f"x = 1\n@{decorator}  # <-\ndef f(): ...").message.startswith(message)


def test_one_bad_function_disables_its_whole_file(load_files):
    registry = load_files({"a.py": "@http.get\ndef fine(): ...\n@http.get\ndef bad(*args): ..."})
    assert (registry.functions, len(registry.failures)) == ({}, 1)
