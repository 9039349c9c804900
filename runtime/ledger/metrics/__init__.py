"""What processes count, on its way to the store, and what the store knows of the whole system."""
