"""Training: from labelled images to a small network that is right."""
