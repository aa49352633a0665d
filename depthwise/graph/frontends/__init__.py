"""Front ends: each reads networks of one format into the graph."""
