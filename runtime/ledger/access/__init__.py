"""Who may call, and who has done what: access keys and the audit log, in the store."""
