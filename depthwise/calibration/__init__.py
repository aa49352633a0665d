"""A network on images that it is fitted on: their values, and weights in closed form from them.

images (how they are given, and how many at once) - walk (all values, node by node) - patches (what
a layer reads at pixels that are drawn) - least_squares (what is fitted to them) -
divergence (how far results are from an original's) - scores (whether these name classes).
"""
