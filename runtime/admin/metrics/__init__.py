"""/_/metrics and /_/stats: what all processes have counted, and what the store knows, as others read it."""
