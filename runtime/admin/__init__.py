"""What operators see: health, readiness, the API under /_/."""
