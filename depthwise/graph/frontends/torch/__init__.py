"""From PyTorch: torch.export's program, rule by rule, into the graph."""
