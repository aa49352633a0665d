"""An oracle for plans: their steps run in Python, on memory that knows what was written into it."""
