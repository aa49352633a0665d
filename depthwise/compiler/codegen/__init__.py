"""C text from a plan."""
