"""Commands that look at how a system does: figures, limits, alerts, the doctor."""
