"""Secrets: read from `.env`, `.secrets` and encrypted values, kept out of everything that is written."""
