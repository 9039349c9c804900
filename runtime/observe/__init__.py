"""What goes on, for those who look on: counts, lines, traces. Knows no function, no store, no HTTP."""
