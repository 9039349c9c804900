"""What every layer stands on: errors, settings, durations, ids, logs, keys. Imports nothing above."""
