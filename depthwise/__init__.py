"""Small convolutional networks, from idea to device."""
