from pathlib import Path

from runtime.declare.loader import load


def test_the_example_functions_load():
    registry = load(Path(__file__).parents[2])
    assert registry.failures == ()
    assert {"sum", "webhook", "countdown", "reports.invoice.total"} <= registry.functions.keys()
