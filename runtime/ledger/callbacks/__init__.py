"""Callbacks: what was promised to be told of the end of runs, and has not been yet."""
