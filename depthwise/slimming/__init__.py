"""Networks that were trained, made to meet a budget and to keep what they know."""
