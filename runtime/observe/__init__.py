"""What the processes of a system count of their work. Knows no function, no store and no HTTP."""
