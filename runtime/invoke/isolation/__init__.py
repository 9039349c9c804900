"""Processes for jobs that are to be alone: their worker's side, and handlers that run in them."""
