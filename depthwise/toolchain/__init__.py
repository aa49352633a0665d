"""From C to a shared library."""
