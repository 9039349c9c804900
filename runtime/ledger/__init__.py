"""The run ledger: every run that was accepted, and what becomes of it."""
