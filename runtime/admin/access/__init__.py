"""The endpoints for access keys and the audit log, and what records acts in it."""
