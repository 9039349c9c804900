"""The benchmarks say what they measured: their arithmetic, their choices, their page, and that they run."""

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import load
from benchmarks.compare import __main__ as command
from benchmarks.compare import document, environments, picture, tables
from benchmarks.compare.jobs.sides import SIDES
from benchmarks.compare.results import Case, Results, ratios, spread
from benchmarks.compare.web import cases, measure, servers

ROOT = Path(__file__).parents[1]
RATE, TIME = Case("Requests", "requests/s"), Case("Start", "s", less=True)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Two rounds of a rate, one of a time; the peer has no second round."""
    made = Results(tmp_path / "results.json")
    made.begin("http", {"get": RATE, "start": TIME}, {"seconds": 1}, resume=False)
    made.part("http", machine="a machine", command="make bench", rounds="2 rounds", servers={"fnrun": "ours"})
    for number, figure in enumerate((200.0, 300.0)):
        made.add("http.get", "fnrun", number, figure)
    made.add("http.get", "flask", 1, 100.0)
    made.add("http.start", "fnrun", 0, 0.5)
    made.add("http.start", "flask", 0, 1.0)
    return made


def test_a_ratio_is_of_one_round_and_more_than_one_where_ours_is_better(results: Results):
    assert ratios(results.cases["http.get"], "flask") == [3.0]
    assert ratios(results.cases["http.start"], "flask") == [2.0]
    assert ratios(results.cases["http.get"], "robyn") == []
    assert spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)


def test_figures_are_kept_and_only_what_is_asked_for_begins_anew(results: Results):
    again = Results(results.path)
    assert again.has("http.get", "fnrun", 1)
    again.begin("http", {"get": RATE}, {}, resume=True)
    assert again.has("http.get", "fnrun", 1)
    again.begin("http", {"get": RATE}, {}, resume=False)
    assert not again.has("http.get", "fnrun", 1)
    assert again.has("http.start", "flask", 0)


def test_who_was_passed_over_is_told_until_it_takes_part(results: Results):
    results.part("http", passed_over={"nginx": "there is none"})
    assert "http: nginx: passed over: there is none" in tables.as_text(results.record)
    results.part("http", passed_over={"nginx": None})
    assert "nginx" not in tables.as_text(results.record)


def test_a_table_has_ours_first_and_then_the_best(results: Results):
    results.add("http.get", "robyn", 0, 150.0)
    rows = list(tables.rows(results.cases["http.get"]))
    assert [row.name for row in rows] == ["fnrun", "robyn", "flask"]
    assert rows[0] == ("fnrun", "250", "200-300", "")
    assert rows[2].ratio == "3.00x (3.00-3.00)"
    assert [tables.number(value) for value in (12345.6, 99.94, 1.234)] == ["12,346", "99.9", "1.23"]


def test_the_page_gets_results_between_its_markers_and_keeps_the_rest(results: Results, tmp_path: Path):
    (tmp_path / "benchmarks.md").write_text(f"# Before\n\n{document.BEGIN}\nold\n{document.END}\n\nAfter\n")
    document.write(results.record, tmp_path)
    page = (tmp_path / "benchmarks.md").read_text()
    assert page.startswith("# Before")
    assert page.endswith("After\n")
    assert "old" not in page
    assert "| flask | 100 | 100 to 100 | 3.00x (3.00-3.00) |" in page
    assert "`make bench`: 2 rounds" in page
    assert json.loads((tmp_path / "benchmarks.json").read_text()) == results.record
    with pytest.raises(ValueError, match="no place for results"):
        document.insert("a page", "results")


def test_our_own_page_has_a_place_for_results():
    assert "new" in document.insert((ROOT / "docs" / "benchmarks.md").read_text(), "new")


def test_the_picture_has_a_bar_and_a_name_a_side(results: Results):
    drawn = ElementTree.fromstring(picture.draw(results.record))
    of = "{http://www.w3.org/2000/svg}"
    assert len(drawn.findall(f"{of}rect")) == 4
    assert [text.text for text in drawn.findall(f"{of}text")].count("flask") == 2


def test_cases_and_peers_are_chosen_by_name():
    everything = command.choose_cases(None)
    assert everything == {"http": list(cases.CASES), "queue": everything["queue"]}
    assert command.choose_cases("http.get,queue.submit,http.get") == {"http": ["get"], "queue": ["submit"]}
    assert command.choose_cases("queue")["http"] == []
    assert command.choose_sides("") == {"http": ["fnrun"], "queue": ["fnrun"]}
    assert command.choose_sides("arq, flask") == {"http": ["fnrun", "flask"], "queue": ["fnrun", "arq"]}
    with pytest.raises(ValueError, match=r"there is no http\.put"):
        command.choose_cases("http.put")
    with pytest.raises(ValueError, match="there is no flusk"):
        command.choose_sides("flusk")


def test_what_peers_are_made_of_is_pinned():
    wanted = {server.environment for server in servers.SERVERS.values()} | {side.environment for side in SIDES.values()}
    for name in wanted - {None, environments.OURS}:
        pins = environments.requirements(str(name))
        assert pins, name
        assert [pin for pin in pins if not re.fullmatch(r"[a-z-]+(\[[a-z]+\])?==[0-9.]+", pin)] == []


def test_a_peer_that_is_not_there_is_named_and_passed_over(monkeypatch, results: Results, capsys):
    monkeypatch.setattr(servers.shutil, "which", lambda *_, **__: None)
    plan = measure.Plan(servers=["nginx"], cases=["get"], rounds=1, seconds=1, connections=1, rate=None)
    measure.measure(plan, results, resume=False)
    assert "nginx is passed over: there is no nginx on PATH" in capsys.readouterr().out
    assert results.record["parts"]["http"]["passed_over"] == {"nginx": "there is no nginx on PATH"}


def test_the_client_reads_answers_with_a_length_and_with_chunks():
    plain = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"
    assert load.read_answer(plain + b"HTTP") == (200, b"ab", len(plain))
    assert load.read_answer(plain[:-1]) is None
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n"
    assert load.read_answer(chunked + b"more") == (200, b"abc", len(chunked))
    assert all(load.read_answer(chunked[:at]) is None for at in range(len(chunked)))
    with pytest.raises(ValueError, match="no Content-Length"):
        load.read_answer(b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.live
def test_a_short_run_of_ours_alone_measures_http_and_the_queue(tmp_path: Path):
    kept = tmp_path / "results.json"
    options = ["--quick", "--peers", "", "--only", "http.get,http.up-100kB,queue.drain-noop,queue.submit"]
    options += ["--seconds", "0.2", "--scale", "0.01", "--connections", "2", "--results", str(kept)]
    run = [sys.executable, "-P", "-m", "benchmarks.compare", *options]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=55)
    assert done.returncode == 0, done.stderr[-600:]
    record = json.loads(kept.read_text())["cases"]
    figures = {key: case["values"]["fnrun"]["0"] for key, case in record.items()}
    assert set(figures) == {"http.get", "http.up-100kB", "queue.drain-noop", "queue.submit"}
    assert all(figure > 0 for figure in figures.values())
    assert "queue.submit: Submit, one process, jobs/s (scale 0.01)" in done.stdout
