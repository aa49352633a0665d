"""What a network costs and where its design goes wrong, read from the graph.

count (multiply-adds of each operator) - receptive (what each pixel sees) - memory (the peak of
activations) - cost (all of it, layer by layer) - tables (for a person to read).
"""

from depthwise.accounting.cost import Cost, Layer, cost, cost_of_graph

__all__ = ["Cost", "Layer", "cost", "cost_of_graph"]
