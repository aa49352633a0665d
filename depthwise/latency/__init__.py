"""How long a compiled network will take on a measured machine."""
