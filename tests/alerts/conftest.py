"""The store of the ledger's tests, for alerts."""

from tests.ledger.conftest import client, desk, trial, valkey

__all__ = ["client", "desk", "trial", "valkey"]
