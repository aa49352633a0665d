"""How rows of the table of kernels name the arguments of a kernel."""

from depthwise.compiler.kernel import Kind, Parameter, Parameters
from depthwise.graph.dtypes import FLOAT32, DType

# How long a multiply-add takes, relative to one at full speed: to rank the ways to divide a step.
MULTIPLY_ADD, DEPTHWISE_MULTIPLY_ADD = 1.0, 2.0


def ints(names: str, length: int = 0) -> Parameters:
    """Return parameters that are whole numbers, or arrays of them."""
    return tuple(Parameter(name, "int", length) for name in names.split())


def floats(names: str) -> Parameters:
    """Return parameters that are numbers."""
    return tuple(Parameter(name, "float") for name in names.split())


def tables(names: str, length: int = 0) -> Parameters:
    """Return parameters that are static arrays of whole numbers, or arrays of such."""
    return tuple(Parameter(name, "table", length) for name in names.split())


def pointers(kind: Kind, names: str, dtype: DType = FLOAT32) -> Parameters:
    """Return parameters that point to values, in the order in which C takes them."""
    return tuple(Parameter(name, kind, dtype=dtype) for name in names.split())


IMAGES = "images rows width"
PLANES = "images channels height width out_height out_width"
IN, OUT, SUM, INDEX = (f"{p}_image {p}_row {p}_pixel" for p in ("in", "out", "sum", "index"))
EPILOGUE = (Parameter("epilogue", "epilogue"),)
ACTIVATION = (Parameter("activation", "activation"),)
REQUANTIZE = (Parameter("requantize", "requantize"),)
