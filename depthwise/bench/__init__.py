"""How fast compiled networks are, layer by layer and beside other runtimes."""
