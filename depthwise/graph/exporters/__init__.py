"""Exporters: the graph in the formats of others."""
