"""What is known of the web at large, before anything is sent there."""
