"""Commands that look at how a system does."""
