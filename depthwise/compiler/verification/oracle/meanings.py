"""What each kernel of the table means: a function of NumPy that does a call of it."""

from collections.abc import Callable, Mapping
from typing import Any

from depthwise.compiler.kernels import KERNELS


class CallArguments:
    """The arguments of a call by their names in C; one that is a word of Python ends with _."""

    def __init__(self, lanes: int, values: Mapping[str, Any]):
        self.lanes = lanes
        self._values = values

    def __getattr__(self, name: str) -> Any:
        return self._values[name.rstrip("_")]

    def strides(self, prefix: str) -> tuple[int, int, int, int]:
        """Return what lies between images, rows, pixels and channels of `prefix`."""
        image, row, pixel = (self._values[f"{prefix}_{axis}"] for axis in ("image", "row", "pixel"))
        return image, row, pixel, 1


Meaning = Callable[[CallArguments], None]
MEANINGS: dict[str, Meaning] = {}


def means(kernel: str) -> Callable[[Meaning], Meaning]:
    """Return a decorator: the function does what the kernel of that name in C does."""
    assert kernel in KERNELS, f"no kernel {kernel}: it has no row in the table of kernels"

    def register(function: Meaning) -> Meaning:
        MEANINGS[kernel] = function
        return function

    return register
