"""The threads that handlers without async run in."""
