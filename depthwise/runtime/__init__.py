"""What a program needs to run a compiled library: NumPy alone, no PyTorch."""
