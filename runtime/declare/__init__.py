"""What authors write, as pure data: triggers, policies, markers; and the loader that reads it from files."""
