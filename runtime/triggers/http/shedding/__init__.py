"""Load shedding: whom a process refuses when more comes than it can do, and how a refusal stays quick."""
