"""What runs have logged, kept with them."""
