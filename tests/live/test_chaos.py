"""Runs under workers that are killed all the time: see tests/chaos.py, which can do more of it by hand."""

from pathlib import Path

import pytest

from tests import chaos

pytestmark = pytest.mark.live


@pytest.mark.timeout(240)
def test_nothing_is_lost_while_workers_are_killed(tmp_path: Path):
    chaos.run(tmp_path, 1_500, 0.3)


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_nothing_is_lost_in_the_long_run(tmp_path: Path):
    chaos.run(tmp_path, 10_000, 0.2)
