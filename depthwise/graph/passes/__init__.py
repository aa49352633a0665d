"""Neutral passes: from graph to graph, for whoever compiles, slims or quantises."""
