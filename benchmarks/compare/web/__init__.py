"""HTTP: one server process on one core, its client on another."""
