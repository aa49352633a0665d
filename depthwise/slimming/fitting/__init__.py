"""From images to statistics of layers, and to weights that make up for what was changed."""
