"""Channels: which live or die together, which of them go, and the network without them."""
