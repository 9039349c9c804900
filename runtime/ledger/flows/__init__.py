"""Flows in the ledger: steps that begin as others end."""
