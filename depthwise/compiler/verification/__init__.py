"""Whether a library computes what its network does."""
