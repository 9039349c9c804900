"""The scheduler: APScheduler wakes it, the calendar says what is due, the ledger decides who fires."""
