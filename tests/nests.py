"""Nests of tensors spelled as text, with the arrays in them: what two processes compare.

Run with the directory of a library and a file of inputs, it prints what the library returns, in a
process without PyTorch and without the classes of whoever compiled it.
"""

import json
import sys
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def spell(value: Any, arrays: list[np.ndarray]) -> str:
    """Return a nest as text, classes by their names, and append the arrays in it."""
    if value is None or isinstance(value, bool | int | float | str):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, list | tuple | dict) or is_dataclass(value) or hasattr(value, "maxlen"):
        return f"{type(value).__name__}({', '.join(_parts(value, arrays))})"
    array = value.detach().numpy() if hasattr(value, "detach") else value
    arrays.append(array)
    return f"{array.shape}"


def _parts(value: Any, arrays: list[np.ndarray]) -> list[str]:
    if is_dataclass(value):
        pairs = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, dict):
        pairs = list(value.items())
    elif hasattr(value, "_fields"):
        pairs = list(zip(value._fields, value, strict=True))
    else:
        return [spell(part, arrays) for part in value]
    return [f"{key!r}={spell(part, arrays)}" for key, part in pairs]


def main(directory: str, file: str) -> None:
    """Print what a library returns for the arrays in a file, as JSON."""
    import depthwise as dw

    arrays: list[np.ndarray] = []
    text = spell(dw.load(directory)(np.load(file)), arrays)
    assert "torch" not in sys.modules
    print(json.dumps([text, [array.tolist() for array in arrays]]))


if __name__ == "__main__":
    main(*sys.argv[1:])
