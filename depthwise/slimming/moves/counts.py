"""Which ranks and numbers of channels are worth offering."""

from math import lcm


def offered_counts(most: int, unit: int = 1) -> list[int]:
    """Return numbers of channels below `most`, the largest that saves anything, largest first.

    Eighths of it, each a multiple of `unit` and of what fills vectors: of 8, beyond 64 of 16.
    """
    lanes = lcm(16 if most >= 64 else 8, unit)
    counts = {round(most * eighths / 8 / lanes) * lanes for eighths in range(1, 8)}
    return sorted((count for count in counts if 0 < count <= most), reverse=True)
