"""What a network costs: planned, compiled and timed."""
