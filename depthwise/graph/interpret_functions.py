"""What further functions of each element give, in NumPy."""

import math
from collections.abc import Callable

import numpy as np


def sinc(x: np.ndarray) -> np.ndarray:
    """Return sin(pi · x) / (pi · x), with zeros at whole numbers but 0."""
    near = np.rint(x)
    sine = np.sin(np.pi * (x - near)) * np.where(near % 2, -1, 1)
    return np.where(x == 0, 1, sine / (np.pi * np.where(x == 0, 1, x))).astype(x.dtype)


FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "exp2": np.exp2,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "sinc": sinc,
    "erfc": np.vectorize(math.erfc, otypes=[float]),
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,  # ties to even
    "sign": lambda x: np.where(x > 0, 1, np.where(x < 0, -1, 0)).astype(x.dtype),  # NaN gives 0
    "threshold": lambda x, least, value: np.where(x <= least, value, x).astype(x.dtype),
    "hard_shrink": lambda x, most: np.where((x >= -most) & (x <= most), 0, x).astype(x.dtype),
}
