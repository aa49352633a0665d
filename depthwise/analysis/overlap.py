"""How many products of a transposed convolution meet in each output pixel.

Where the numbers differ from pixel to pixel the output carries a checkerboard, which training has
to unlearn. Odena, Dumoulin & Olah, "Deconvolution and checkerboard artifacts", Distill 2016.
"""

import numpy as np

Size = int | tuple[int, int]  # of both axes, or (vertical, horizontal)


def overlap_map(kernel_size: Size, stride: Size, size: Size, dilation: Size = 1) -> np.ndarray:
    """Return how many products each output pixel sums, (H', W'), for an input of `size` pixels.

    Nothing is cut from the border: the convolution has no padding. Raises ValueError for sizes
    below 1.
    """
    axes = zip(*(_pair(name, value) for name, value in
                 (("kernel_size", kernel_size), ("stride", stride), ("size", size), ("dilation",
                 dilation))),
               strict=True)  # fmt: skip
    return np.outer(*(_overlap_line(*axis) for axis in axes))


def overlap_counts(kernel_size: int, stride: int, dilation: int = 1) -> tuple[int, ...]:
    """Return what meets in `stride` neighbours inside one axis of the output, fewest first.

    All are equal exactly when the kernel's taps spread evenly over the stride: for dilation 1,
    when the stride divides the kernel.
    """
    return tuple(sorted(_phases(kernel_size, stride, dilation).tolist()))


def interior(kernel_size: Size, stride: Size, dilation: Size = 1) -> np.ndarray:
    """Return two periods of the overlap map away from the border, at most 8 x 8 pixels."""
    axes = zip(*(_pair(name, value) for name, value in
                 (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation))),
               strict=True)  # fmt: skip
    return np.outer(*(np.tile(_phases(*axis), 2)[:8] for axis in axes))


def as_text(counts: np.ndarray) -> str:
    """Return a map as aligned text, one row of pixels a line."""
    width = len(str(counts.max()))
    return "\n".join(" ".join(str(count).rjust(width) for count in row) for row in counts)


def _pair(name: str, value: Size) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else value
    if min(pair) < 1:
        raise ValueError(f"{name}={value}: must be at least 1")
    return pair


def _overlap_line(kernel_size: int, stride: int, size: int, dilation: int) -> np.ndarray:
    stamps = np.arange(size)[:, None] * stride + np.arange(kernel_size) * dilation
    return np.bincount(stamps.ravel())


def _phases(kernel_size: int, stride: int, dilation: int) -> np.ndarray:
    """Return how many taps fall on each of `stride` neighbouring output pixels."""
    return np.bincount(np.arange(kernel_size) * dilation % stride, minlength=stride)
