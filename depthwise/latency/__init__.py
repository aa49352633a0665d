"""How long a compiled network will take on a measured machine, layer by layer.

calibration_networks (networks to time) - features, cache_model (what kernel calls are made of) -
timing (what they take) - fit, least_squares (the coefficients: what that costs) - predict (the
latency of a network).
"""
