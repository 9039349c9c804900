"""Logging as it was, after each test."""

import logging
import sys

import pytest
import structlog

from runtime.base.logs import keep_with


@pytest.fixture(autouse=True)
def _restored_logging():
    root = logging.getLogger()
    handlers, level, streams = list(root.handlers), root.level, (sys.stdout, sys.stderr)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    sys.stdout, sys.stderr = streams
    keep_with(None)
