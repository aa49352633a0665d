"""From a node of the graph to calls of kernels: one lowering an operator, one file a family."""
