"""The queue: one worker process, one store with its append-only file on."""
