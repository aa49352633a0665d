"""Labelled images, wherever they come from, as squares of pixels that a network is trained on."""
