"""What a network costs and where its design goes wrong, read from the graph.

count (multiply-adds of each operator) - receptive (what each pixel sees) - memory (the peak of
activations) - cost (all of it, layer by layer) - tables (for a person to read) - counters, explain
(what other tools print, and why) - published (accuracies, with their sources) - feature_maps,
ghosts (maps that are made of others) - overlap, gridding, lint_planes, lint_channels, lint, finding
(what is wrong, and what to do).
"""

from depthwise.analysis.cost import Cost, Layer, cost, cost_of_graph
from depthwise.analysis.explain import Explanation, explain
from depthwise.analysis.finding import Finding
from depthwise.analysis.lint import lint, lint_graph

__all__ = [
    "Cost",
    "Explanation",
    "Finding",
    "Layer",
    "cost",
    "cost_of_graph",
    "explain",
    "lint",
    "lint_graph",
]
