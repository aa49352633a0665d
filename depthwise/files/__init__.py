"""Files that survive kills, and the cache that is made of them."""
