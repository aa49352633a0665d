"""The stages of `ship`, one a file."""
