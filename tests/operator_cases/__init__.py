"""Small networks that together use every operator of the graph and every layer, by name.

A case is (network, input shapes). Capture, the interpreter, compiled code, saved graphs and ONNX
are all tested with each.
"""

from operator_cases import (
    elementwise,
    many_axes,
    movement,
    plain,
    reductions,
    resampling,
    signals,
    types,
)
from operator_cases.building import Function, X, conv, scrambled
from operator_cases.of_layers import LAYERS

CASES = {
    name: case
    for family in (plain, elementwise, reductions, movement, signals, resampling, types, many_axes)
    for name, case in family.CASES.items()
}

__all__ = ["CASES", "LAYERS", "Function", "X", "conv", "scrambled"]
