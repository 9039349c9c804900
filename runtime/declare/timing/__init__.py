"""When schedules fire: rules checked, and the instants they mean."""
