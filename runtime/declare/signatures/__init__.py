"""What a function's signature and docstring say: its parameters, where each is read, examples of its arguments."""
