"""What is told of metrics is so: the docs, the dashboard, the example for Prometheus."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from runtime.admin.metrics.families import families
from runtime.admin.metrics.told import Told
from runtime.ledger.metrics.facts import Facts
from runtime.observe.board import Process, Reading
from tests.conftest import ROOT

PROMTOOL = shutil.which("promtool", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


@pytest.fixture(scope="module")
def found():
    """Every metric that there can be, with something of each kind that is counted."""
    numbers = [1.0] * 32
    kinds = [
        ("call", "a", "http"),
        ("late", "a", ""),
        ("missed", "a", ""),
        ("blocked", "", ""),
        ("count", "limit", "a"),
    ]
    reading = Reading(dict.fromkeys(kinds, numbers), {}, (Process("http", 1, 1, 1.0, True),))
    told = Told(seconds=0.1, facts=Facts(1, 1, ()), queues=(), limits=())
    return list(families("1", reading, {}, told, has_store=True))


def queries(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_docs_name_every_metric_and_no_other(found):
    text = (ROOT / "docs" / "metrics.md").read_text()
    names = {family.name + ("_total" if family.type == "counter" else "") for family in found}
    rows = "\n".join(line.partition(" | ")[0] for line in text.splitlines() if line.startswith("| `fnrun_"))
    assert set(re.findall(r"`(fnrun_\w+)`", rows)) == names


def test_the_dashboard_shows_what_there_is(found):
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    names = {family.name + suffix for family in found for suffix in _SUFFIXES[family.type]}
    assert len(queries(dashboard)) > 20
    for query in queries(dashboard):
        assert set(re.findall(r"fnrun_\w+", query)) <= names, query
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    spots = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(spots)) == len(spots)


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool: `make promtool` fetches Debian's")
def test_promtool_has_nothing_against_them(found):
    class Found(CollectorRegistry):
        def collect(self):
            return iter(found)

    text = generate_latest(Found(auto_describe=False))
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"")
    config = [PROMTOOL, "check", "config", "--syntax-only", ROOT / "deploy" / "prometheus.yml"]
    done = subprocess.run(config, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool: `make promtool` fetches Debian's")
def test_every_query_of_the_dashboard_and_the_docs_is_one(tmp_path):
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    page = (ROOT / "docs" / "metrics.md").read_text()
    (advised,) = re.findall(r"^```\n(sum by .*?)^```", page, re.MULTILINE | re.DOTALL)
    written = [query.replace("$__rate_interval", "5m") for query in queries(dashboard)]  # as Grafana does
    rules = [{"record": f"query:{number}", "expr": one} for number, one in enumerate([*written, advised])]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run([PROMTOOL, "check", "rules", tmp_path / "rules.yml"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found".encode() in done.stdout
