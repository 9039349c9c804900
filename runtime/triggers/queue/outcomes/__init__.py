"""What runs come to: their results, and what their limits make of them."""
