"""One folder a kind of trigger; none knows another."""
