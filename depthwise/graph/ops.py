"""The operators of the graph: what each one computes, with no sizes beyond its own attributes.

Tensors are (N, C, H, W) unless an operator says otherwise. `inputs` in a docstring are the values
an operator reads, in order; those in brackets may be absent at the end.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from depthwise.graph.functions import BinaryFunction, Function
from depthwise.graph.ops_selection import ArgReduce, Cumulate, TopK
from depthwise.graph.ops_sequences import GridSample, Recurrent, Resample
from depthwise.graph.structure import Structure

Pair = tuple[int, int]  # vertical, horizontal


class Padding(NamedTuple):
    """Pixels added on each side."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def symmetric(self) -> bool:
        """Whether opposite sides get equally many."""
        return self.top == self.bottom and self.left == self.right


NO_PADDING = Padding(0, 0, 0, 0)


@dataclass(frozen=True)
class Conv2d:
    """Inputs x, weight (K, C / groups, R, S), [bias (K)]."""

    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int


POINTWISE = Conv2d((1, 1), NO_PADDING, (1, 1), 1)


@dataclass(frozen=True)
class ConvTranspose2d:
    """Inputs x, weight (C, K / groups, R, S), [bias (K)]; `padding` pixels are cut from the output.

    `padding` is at the bottom and right already less PyTorch's output_padding: it may be negative.
    """

    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int


@dataclass(frozen=True)
class DeformConv2d:
    """Inputs x, weight, bias, offsets (N, 2 · G · R · S, H', W') as (y, x) pairs, [mask].

    G is `offset_groups`; the mask is (N, G · R · S, H', W').
    arXiv:1703.06211 section 2.1; with mask arXiv:1811.11168 section 3.2.
    """

    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int
    offset_groups: int


@dataclass(frozen=True)
class DeformRoIPool:
    """Inputs x, boxes (R, 5), offsets (R, 2, P, P); output (R, C, P, P). arXiv:1703.06211, 2.2."""

    output_size: int
    spatial_scale: float
    samples: int
    gamma: float


@dataclass(frozen=True)
class Linear:
    """Inputs x (..., C), weight (K, C), [bias (K)]."""


@dataclass(frozen=True)
class MatMul:
    """Inputs a (..., M, C), b (..., C, K)."""


@dataclass(frozen=True)
class BatchNorm:
    """Inputs x, weight, bias, mean, variance (C): (x - mean) / sqrt(variance + eps) · w + b."""

    eps: float


@dataclass(frozen=True)
class GroupNorm:
    """Inputs x, [weight, bias (C)]; layer norm is groups = 1, instance norm groups = C."""

    groups: int
    eps: float


@dataclass(frozen=True)
class LayerNorm:
    """Inputs x, [weight], [bias]: normalises over the last `axes` axes."""

    axes: int
    eps: float


@dataclass(frozen=True)
class MaxPool2d:
    """Input x; padding counts as minus infinity."""

    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair
    ceil: bool


@dataclass(frozen=True)
class AvgPool2d:
    """Input x; divides by the window's pixels, with or without padding, or by `divisor`."""

    kernel: Pair
    stride: Pair
    padding: Padding
    ceil: bool
    count_padding: bool
    divisor: int | None


@dataclass(frozen=True)
class AdaptivePool2d:
    """Input x; bin i of n covers floor(i · size / n) to ceil((i + 1) · size / n)."""

    function: Literal["mean", "max"]
    size: Pair


@dataclass(frozen=True)
class Reduce:
    """Input x; one value over `axes`."""

    function: Literal["mean", "sum", "max", "min", "product"]
    axes: tuple[int, ...]
    keep: bool


@dataclass(frozen=True)
class Activation:
    """Input x; one function of each element, whose `parameters` graph/functions.py names."""

    function: Function
    parameters: tuple[float, ...] = ()


@dataclass(frozen=True)
class PRelu:
    """Inputs x, slope (C) or (1)."""


@dataclass(frozen=True)
class Binary:
    """Inputs a, b, broadcast as NumPy does; each function is that of NumPy, too.

    The maximum of booleans is or, their minimum and.

    The remainder has the sign of b, fmod that of a; arctan2 is the angle of (b, a).
    """

    function: BinaryFunction


@dataclass(frozen=True)
class Softmax:
    """Input x; exp(x) / sum(exp(x)) over one axis."""

    axis: int


@dataclass(frozen=True)
class Concat:
    """Inputs, one after the other along one axis."""

    axis: int


@dataclass(frozen=True)
class Slice:
    """Input x; x[start:stop:step] along one axis."""

    axis: int
    start: int
    stop: int
    step: int


PadMode = Literal["constant", "reflect", "replicate", "circular"]


@dataclass(frozen=True)
class Pad:
    """Input x; `pads` holds (before, after) for each axis, negative ones cut."""

    pads: tuple[Pair, ...]
    mode: PadMode
    value: float = 0.0


@dataclass(frozen=True)
class Resize:
    """Input x -> size; `step` is how far the input moves for one output pixel, down and right.

    Bilinear samples at (i + 0.5) · step - 0.5, with `align_corners` at i · step; nearest at
    floor(i · step), nearest_exact at floor((i + 0.5) · step).
    """

    mode: Literal["nearest", "nearest_exact", "bilinear"]
    size: Pair
    step: tuple[float, float]
    align_corners: bool = False


@dataclass(frozen=True)
class Reshape:
    """Input x; the same elements in row-major order."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Permute:
    """Input x; axis i of the output is axis axes[i] of x."""

    axes: tuple[int, ...]


@dataclass(frozen=True)
class Expand:
    """Input x; axes of one element are repeated to `shape`."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class LocalResponseNorm:
    """Input x (N, C, H, W): x / (bias + alpha / size · sum of x² over `size` channels) ** power.

    The window of channel c is c - size // 2 to c + (size - 1) // 2, without what lies outside.
    Krizhevsky et al., 2012, section 3.3; PyTorch divides alpha by size, the paper does not.
    """

    size: int
    alpha: float
    power: float
    bias: float


@dataclass(frozen=True)
class Cast:
    """Input x; the same numbers in the type `dtype`.

    Floating numbers are rounded to the nearest, ties to even; to integers they lose their fraction.
    What lies beyond the range of narrower integers wraps around. To bool, all but zero is true.
    """

    dtype: str


@dataclass(frozen=True)
class Quantize:
    """Inputs x, scale, [zero_point (of `dtype`; zero)]: integers of 8 or 16 bits.

    round(x / scale) + zero_point, held inside the range of `dtype`; ties are rounded to even. Scale
    and zero point are (), (1) or, with an `axis`, of as many elements as that axis of x has.
    ONNX, QuantizeLinear.
    """

    dtype: str
    axis: int | None = None


@dataclass(frozen=True)
class Dequantize:
    """Inputs x (integers), scale (of `dtype`), [zero_point (of x's type; zero)].

    (x - zero_point) · scale, in the floating type `dtype`; scale and zero point as in Quantize.
    ONNX, DequantizeLinear.
    """

    dtype: str
    axis: int | None = None


@dataclass(frozen=True)
class MaxPoolIndices:
    """Input x; where in its plane, row by row, the maximum of each window of a MaxPool2d lies.

    The first of equal ones, the last NaN.
    """

    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair
    ceil: bool


@dataclass(frozen=True)
class MaxUnpool2d:
    """Inputs x, indices (N, C, H, W): zeros (N, C, *size) and each x at its index in the plane.

    Of several at one index the last stays.
    """

    size: Pair


@dataclass(frozen=True)
class TakeAlong:
    """Inputs x, indices of as many axes: each index is replaced by x there, along `axis`.

    x[i][j][k] at axis 1 is x[i][indices[i][j][k]][k].
    """

    axis: int


@dataclass(frozen=True)
class Compare:
    """Inputs a, b, broadcast as NumPy does: whether it holds of each pair of elements, in bool.

    NaN is equal to nothing, not to itself either, and neither less nor greater.
    """

    function: Literal["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]


@dataclass(frozen=True)
class Where:
    """Inputs condition (bool), a, b, broadcast as NumPy does: a where it is true, else b."""


@dataclass(frozen=True)
class Gather:
    """Inputs x, indices (K): the slices of x at K places along one axis.

    Indices are whole numbers, those below zero are counted from the end. Floating ones lose their
    fraction. A place outside of the axis gives NaN, of integers and booleans anything.
    """

    axis: int


@dataclass(frozen=True)
class Opaque:
    """An operator that we do not know: it has a type, but no meaning and no count.

    `reason` is why the graph cannot say what it does, where a front end can tell. `call` is what
    PyTorch calls it with, a tuple of a list of arguments and a dict of those by name; its tensors
    are the node's inputs, by their places. None where PyTorch cannot call it. `result` is which of
    several results the node is.
    """

    operator: str
    reason: str = ""
    call: Structure | None = None
    result: int | None = None


Convolution = Conv2d | ConvTranspose2d | DeformConv2d | Linear

Op = (
    Conv2d | ConvTranspose2d | DeformConv2d | DeformRoIPool | Linear | MatMul | BatchNorm
    | GroupNorm | LayerNorm | MaxPool2d | AvgPool2d | AdaptivePool2d | Reduce | Activation | PRelu
    | Binary | Softmax | Concat | Slice | Pad | Resize | Reshape | Permute | Expand | Cast
    | Quantize | Dequantize | LocalResponseNorm | Compare | Where | ArgReduce | TopK | Cumulate
    | MaxPoolIndices | MaxUnpool2d | TakeAlong | Gather | Resample | GridSample | Recurrent | Opaque
)  # fmt: skip
