"""Schedules in the ledger: what is defined, what was changed at run time, which tick was the last."""
