"""Tables of functions.toml that have much to say of their own."""
