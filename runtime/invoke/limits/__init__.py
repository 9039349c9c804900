"""What bounds the calls of a function: how many at once, how often, and whether it is called at all."""
