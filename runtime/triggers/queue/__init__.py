"""The queue's worker: Celery above, the ledger below, and the one loop that runs handlers between them."""
