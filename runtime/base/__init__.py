"""What every layer stands on: errors, settings, durations, ids, logs, keys. Imports nothing above."""

__version__ = "0.1.0"
