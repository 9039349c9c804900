import pytest

HANDLER = "@http.get\ndef handler(): ...\n"


def test_two_functions_of_one_name_in_one_file(load_files):
    registry = load_files({"orders.py": "@http.get('/a')\ndef handler(): ...\n@http.get('/b')\ndef orders(): ..."})
    assert [str(failure) for failure in registry.failures] == [
        'functions/orders.py:8: two functions are named "orders", here and on line 6'
    ]


def test_two_functions_of_one_name_in_two_files(load_files):
    registry = load_files({"a/b.py": "@queue('x')\ndef handler(): ...", "a.py": "@queue('x')\ndef b(): ..."})
    assert list(registry.functions) == ["a.b"]
    assert [str(failure) for failure in registry.failures] == [
        'functions/a/b.py:6: "a.b" is already a function, at functions/a.py:6; rename one'
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('http.get("/x")', 'http.get("/x")'),
        ('http.get("/x/{a}")', 'http.get("/x/{b}")'),
        ('http("/x", methods=["PUT", "GET"])', 'http.get("/x")'),
        ('http.get("/other/f")', "http.get"),
    ],
)
def test_a_duplicate_route_names_both_places(load_files, one, other):
    registry = load_files(
        {"one.py": f"@{one}\ndef handler(a='', b=''): ...", "other.py": f"\n@{other}\ndef f(a='', b=''): ..."}
    )
    assert list(registry.functions) == ["one"]
    (failure,) = registry.failures
    assert failure.place == "functions/other.py:7"
    assert failure.message.startswith("GET /")
    assert failure.message.endswith(' is already answered by "one" at functions/one.py:6; change one path')


def test_a_duplicate_route_within_a_file_names_both_lines(load_files):
    registry = load_files({"a.py": '@http.get("/x")\ndef f(): ...\n@queue("x")\n@http.get("/x")\ndef g(): ...'})
    assert [str(failure) for failure in registry.failures] == [
        'functions/a.py:9: GET /x is already answered by "a.f" at functions/a.py:6; change one path'
    ]


def test_a_route_that_stands_twice_on_one_function(load_files):
    registry = load_files({"a.py": '@http.get("/x")\n@http.get("/x")\ndef f(): ...'})
    assert [failure.place for failure in registry.failures] == ["functions/a.py:7"]


def test_methods_converters_and_slashes_make_routes_different(load_files):
    registry = load_files(
        {
            "a.py": """
                @http.get("/x/{a}")
                def get(a): ...
                @http("/x/{a}", methods=["HEAD"])
                def head(a): ...
                @http.get("/x/{a:int}")
                def number(a): ...
                @http.get("/x/{a}/")
                def slash(a): ...
                @http.post("/x/{a}")
                def post(a): ...
            """
        }
    )
    assert registry.failures == ()
    assert len(registry.functions) == 5


def test_a_failed_file_does_not_keep_its_routes(load_files):
    registry = load_files(
        {"a.py": '@http.get("/x")\ndef f(): ...\nraise ValueError', "b.py": HANDLER.replace("get", 'get("/x")')}
    )
    assert list(registry.functions) == ["b"]
