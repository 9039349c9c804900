"""Work beside the calls of a process: background tasks, many at once, threads and processes for single functions."""
