"""The bounds of functions over all processes of a store."""
