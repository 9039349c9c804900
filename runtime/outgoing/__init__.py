"""What we send to others over HTTP: where it may go, and the sending."""
