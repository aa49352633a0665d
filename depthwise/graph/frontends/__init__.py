"""Front ends: what brings a network into the graph."""
