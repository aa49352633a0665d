"""The operators that only rewritten graphs hold: what they read, their shapes, their meaning."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from depthwise.graph import Node
from depthwise.graph.dtypes import FLOAT16, FLOAT32
from depthwise.graph.infer import infer_dtype, infer_shape
from depthwise.graph.interpret import evaluate
from depthwise.graph.interpret_functions import FUNCTIONS
from depthwise.graph.ops import (
    Activation,
    AdaptivePool2d,
    ArgReduce,
    BatchNorm,
    Binary,
    Convolution,
    MaxPoolIndices,
    MaxUnpool2d,
    Op,
    Padding,
    Reduce,
    TakeAlong,
    TopK,
)
from depthwise.graph.show import describe

Arithmetic = Binary | BatchNorm

# of Binary: what kernels/binary_functions.h computes, in its order
FUNCTIONS_OF_TWO = ("power", "remainder", "fmod", "floor_divide", "arctan2", "hypot")


def is_function(op: Any) -> bool:
    """Tell whether an operator is computed by kernels/functions.h or binary_functions.h.

    They stand alone, so that other kernels compile without them: no epilogue holds such a function,
    and none of theirs has an epilogue.
    """
    match op:
        case Activation(function):
            return function in FUNCTIONS
        case Binary(function):
            return function in FUNCTIONS_OF_TWO
    return False


@dataclass(frozen=True)
class Epilogue:
    """What happens to a result before it is stored: after(before(result) + residual)."""

    before: Activation | None = None
    add: bool = False
    after: Activation | None = None

    def __str__(self) -> str:
        """What is done, in words: relu, plus the residual, relu."""
        residual = "plus the residual" if self.add else ""
        return ", ".join(filter(None, (in_words(self.before), residual, in_words(self.after))))


def in_words(activation: Activation | None) -> str:
    """Return what an activation is, with its numbers: relu, clamp 0 6; "" for none."""
    if activation is None:
        return ""
    numbers = " ".join(f"{number:g}" for number in activation.parameters)
    return f"{activation.function} {numbers}".strip()


@dataclass(frozen=True)
class Fused:
    """Inputs as `op` reads them, then, if the epilogue adds, the residual.

    A convolution always has a bias. The residual has the shape of the output.
    """

    op: Convolution | Arithmetic
    epilogue: Epilogue

    def __str__(self) -> str:
        """The operator, and what is done to its result."""
        then = str(self.epilogue)
        return describe(self.op) + (f", then {then}" if then else "")


@dataclass(frozen=True)
class FlattenChannelsLast:
    """Input x (N, C, H, W) -> (N, H · W · C): the elements in the order that they are stored in."""


@dataclass(frozen=True)
class Images:
    """Input raw images, (N, C, H, W) or (N, H, W, C) by `layout`, of any type of element.

    The output is (N, C, H, W) in float32, with `padding` pixels around each that have the numbers
    of `border`, one a channel: what a preparation turns to zeros.
    """

    layout: Literal["nchw", "nhwc"]
    padding: Padding
    border: tuple[float, ...]


@dataclass(frozen=True)
class CastPairs:
    """Input images (N, C, H, W) of an odd number of channels in float32 -> (N, C + 1, H, W).

    That is in a type of 16 bits, whose kernels read two channels at once; the last one is zeros.
    """

    dtype: str


@dataclass(frozen=True)
class Holds:
    """Inputs a, b, broadcast: 1 where a comparison of them holds, else 0, in their own type."""

    function: Literal["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]


@dataclass(frozen=True)
class Select:
    """Inputs condition (1 or 0), a, b, broadcast: a where the condition is not 0, else b."""


@dataclass(frozen=True)
class FloatPlaces:
    """Inputs as `op` reads them, places that it reads or gives being whole numbers in float32."""

    op: ArgReduce | TopK | MaxPoolIndices | MaxUnpool2d | TakeAlong

    def __str__(self) -> str:
        """The operator."""
        return describe(self.op)


RewrittenOp = Op | Fused | FlattenChannelsLast | Images | CastPairs | Holds | Select | FloatPlaces


def convolution(op: RewrittenOp) -> Convolution | None:
    """Return the convolution or linear layer that `op` is or holds, else None."""
    op = op.op if isinstance(op, Fused) else op
    return op if isinstance(op, Convolution) else None


def takes_plane_mean(node: Node) -> bool:
    """Tell whether a node gives one mean for each image and channel."""
    match node.op:
        case AdaptivePool2d("mean", (1, 1)):
            return True
        case Reduce("mean", (2, 3), keep=True):
            return len(node.type.shape) == 4
    return False


@infer_shape.register
def _(op: Fused, *inputs):
    *operands, residual = inputs if op.epilogue.add else (*inputs, None)
    biased = len(operands) >= 3  # DeformConv2d always has a bias, the others take it last
    if isinstance(op.op, Convolution) and not biased:
        raise ValueError(f"inputs {operands}: a fused convolution always has a bias")
    shape = infer_shape(op.op, *operands)
    if residual not in (None, shape):
        raise ValueError(f"residual {residual} is not of the output's shape {shape}")
    return shape


@infer_shape.register
def _(op: Holds | Select, *inputs):  # noqa: ARG001
    return np.broadcast_shapes(*inputs)


@infer_shape.register
def _(op: FloatPlaces, *inputs):
    return infer_shape(op.op, *inputs)


@infer_shape.register
def _(op: FlattenChannelsLast, x):  # noqa: ARG001
    if len(x) != 4:
        raise ValueError(f"input {x}: need (N, C, H, W)")
    return (x[0], x[1] * x[2] * x[3])


@infer_shape.register
def _(op: Images, x):
    if len(x) != 4:
        raise ValueError(f"input {x}: images have four axes")
    n, c, h, w = (x[0], x[3], *x[1:3]) if op.layout == "nhwc" else x
    if c != len(op.border):
        raise ValueError(f"input {x} has {c} channels, its border {len(op.border)}")
    top, bottom, left, right = op.padding
    return (n, c, top + h + bottom, left + w + right)


@infer_dtype.register
def _(op: Fused, *inputs):
    *operands, residual = inputs if op.epilogue.add else (*inputs, None)
    if isinstance(op.op, Convolution) and operands[-1] == FLOAT32.name != operands[0]:
        operands.pop()  # sums are float32, and so is the bias that they begin with
    if isinstance(op.op, Convolution) and operands[:2] == [FLOAT32.name, FLOAT16.name]:
        operands[1] = FLOAT32.name  # weights may be stored in fewer bits
    dtype = infer_dtype(op.op, *operands)
    if residual not in (None, dtype):
        raise ValueError(f"residual of {residual}, output of {dtype}: they need one type")
    return dtype


@infer_shape.register
def _(op: CastPairs, x):  # noqa: ARG001
    if len(x) != 4 or x[1] % 2 == 0:
        raise ValueError(f"input {x}: images of an odd number of channels get one more")
    return (x[0], x[1] + 1, *x[2:])


@infer_dtype.register
def _(op: CastPairs, x):  # noqa: ARG001
    return op.dtype


@infer_dtype.register
def _(op: Images, x):  # noqa: ARG001
    return "float32"


@evaluate.register
def _(op: Fused, *inputs):
    before, add, after = op.epilogue.before, op.epilogue.add, op.epilogue.after
    y = evaluate(op.op, *(inputs[:-1] if add else inputs))
    y = evaluate(before, y) if before else y
    y = y + inputs[-1] if add else y
    return evaluate(after, y) if after else y


@evaluate.register
def _(op: Holds, a, b):
    return getattr(np, op.function)(a, b).astype(a.dtype)


@evaluate.register
def _(op: Select, condition, a, b):  # noqa: ARG001
    return np.where(condition != 0, a, b)


@evaluate.register
def _(op: FloatPlaces, x, *places):
    return evaluate(op.op, x, *(p.astype(np.int64) for p in places)).astype(x.dtype)


@evaluate.register
def _(op: FlattenChannelsLast, x):  # noqa: ARG001
    return x.transpose(0, 2, 3, 1).reshape(x.shape[0], -1)


@evaluate.register
def _(op: CastPairs, x):  # noqa: ARG001
    return np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))


@evaluate.register
def _(op: Images, x):
    planes = x.transpose(0, 3, 1, 2) if op.layout == "nhwc" else x
    top, _, left, _ = op.padding
    height, width = planes.shape[2:]
    y = np.empty(infer_shape(op, x.shape), np.float32)
    y[:] = np.reshape(op.border, (1, -1, 1, 1))
    y[:, :, top : top + height, left : left + width] = planes
    return y
