"""How each of PyTorch's operators becomes ours: one rule an operator, by its name in ATen.

A rule takes the builder and the operator's own arguments, tensors as values, and returns the value
(or values) of its result. In-place operators share the rule of their plain twin.
"""

from collections.abc import Callable, Sequence
from typing import Any

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.ops import Padding, Pair

Rule = Callable[..., Any]

RULES: dict[str, Rule] = {}

Ints = int | Sequence[int]


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators named as in torch.ops."""

    def register(function: Rule) -> Rule:
        for name in names:
            assert name not in RULES, name
            RULES[name] = function
        return function

    return register


def pair(value: Ints) -> Pair:
    """Return (vertical, horizontal) of a number, or of one or two numbers in a list."""
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1]) if value else (1, 1)


def even_padding(value: Ints) -> Padding:
    """Return the same padding on opposite sides."""
    vertical, horizontal = pair(value)
    return Padding(vertical, vertical, horizontal, horizontal)


def image_rule(*names: str, rank: int = 4) -> Callable[[Rule], Rule]:
    """Register a rule of images (N, C, H, W); one without a batch becomes a batch of one.

    Another rank is that of signals or volumes.
    """

    def register(function: Rule) -> Rule:
        def lowered(b: Builder, x: Value, *arguments, **named) -> Any:
            if x.rank != rank - 1:
                return function(b, x, *arguments, **named)
            batch = b.emit(ops.Reshape((1, *x.shape)), x)
            result = function(b, batch, *arguments, **named)
            several = result if isinstance(result, list) else [result]
            single = [y and b.emit(ops.Reshape(y.shape[1:]), y) for y in several]
            return single if isinstance(result, list) else single[0]

        return rule(*names)(lowered)

    return register


# ------------------------------------------------------------------------- convolution, linear


def present(*values: Value | None) -> list[Value]:
    """Return the values that are not None."""
    return [value for value in values if value is not None]


@image_rule("aten.conv2d")
def _(b: Builder, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    if isinstance(padding, str):
        spans = [pair(dilation)[i] * (weight.shape[2 + i] - 1) for i in (0, 1)]
        spans = spans if padding == "same" else [0, 0]
        # PyTorch puts the odd pixel of 'same' at the bottom and right
        pads = Padding(*(side for span in spans for side in (span // 2, span - span // 2)))
    else:
        pads = even_padding(padding)
    op = ops.Conv2d(pair(stride), pads, pair(dilation), groups)
    return b.emit(op, x, weight, *present(bias))


@image_rule("aten.conv_transpose2d")
def _(
    b: Builder, x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):  # fmt: skip
    (vertical, horizontal), (extra_y, extra_x) = pair(padding), pair(output_padding)
    pads = Padding(vertical, vertical - extra_y, horizontal, horizontal - extra_x)
    op = ops.ConvTranspose2d(pair(stride), pads, pair(dilation), groups)
    return b.emit(op, x, weight, *present(bias))


@rule("aten.convolution", "aten._convolution")
def _(
    b: Builder, x, weight, bias, stride, padding, dilation, transposed, output_padding, groups,
    *_how,
):  # fmt: skip
    axes = weight.rank - 2
    if transposed:
        transpose = RULES[f"aten.conv_transpose{axes}d"]
        return transpose(b, x, weight, bias, stride, padding, output_padding, groups, dilation)
    convolve = RULES[f"aten.conv{axes}d"]
    return convolve(b, x, weight, bias, stride, padding, dilation, groups)


@rule("torchvision.deform_conv2d")
def _(
    b: Builder, x, weight, offset, mask, bias, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w,
    groups, offset_groups, use_mask,
):  # fmt: skip
    # without a bias torchvision still passes one of zeros, without a mask one that is not read
    padding, dilation = even_padding((pad_h, pad_w)), (dil_h, dil_w)
    op = ops.DeformConv2d((stride_h, stride_w), padding, dilation, groups, offset_groups)
    return b.emit(op, x, weight, bias, offset, *([mask] if use_mask else []))


@rule("depthwise.deform_roi_pool")
def _(b: Builder, x, boxes, offsets, output_size, spatial_scale, samples, gamma):
    return b.emit(ops.DeformRoIPool(output_size, spatial_scale, samples, gamma), x, boxes, offsets)


@rule("aten.linear")
def _(b: Builder, x, weight, bias=None):
    return b.emit(ops.Linear(), x, weight, *present(bias))


# ---------------------------------------------------------------------------- normalisation


@rule("aten.batch_norm")
def _(b: Builder, x, weight, bias, mean, variance, training, momentum, eps, cudnn_enabled=False):
    if training or mean is None:
        return (
            None if training and mean is not None else batch_norm_by_batch(b, x, weight, bias, eps)
        )
    dtype, channels = x.type.dtype, x.shape[1]
    weight = weight or b.literal([1.0] * channels, dtype)
    bias = bias or b.literal([0.0] * channels, dtype)
    return b.emit(ops.BatchNorm(eps), x, weight, bias, mean, variance)


def batch_norm_by_batch(b: Builder, x: Value, weight, bias, eps: float) -> Value:
    """Normalise by the statistics of the batch itself: a group a channel, images side by side."""
    dtype, channels = x.type.dtype, x.shape[1]
    weight = weight or b.literal([1.0] * channels, dtype)
    bias = bias or b.literal([0.0] * channels, dtype)
    op = ops.GroupNorm(channels, eps)
    if x.shape[0] == 1:
        return b.emit(op, x, weight, bias)
    swap = ops.Permute((1, 0, *range(2, x.rank)))
    swapped = b.emit(swap, x)
    beside = b.emit(ops.Reshape((1, channels, x.type.size // channels)), swapped)
    y = b.emit(ops.Reshape(swapped.shape), b.emit(op, beside, weight, bias))
    return b.emit(swap, y)


@rule("aten._native_batch_norm_legit_no_training")
def _(b: Builder, x, weight, bias, mean, variance, momentum, eps):
    y = RULES["aten.batch_norm"](b, x, weight, bias, mean, variance, False, momentum, eps)
    return [y, None, None]


@rule("aten.group_norm")
def _(b: Builder, x, groups, weight=None, bias=None, eps=1e-5, cudnn_enabled=False):
    return b.emit(ops.GroupNorm(groups, eps), x, *present(weight, bias))


@rule("aten.instance_norm")
def _(b: Builder, x, weight, bias, mean, variance, use_input_stats, momentum, eps, cudnn_enabled):
    if not use_input_stats:
        return RULES["aten.batch_norm"](b, x, weight, bias, mean, variance, False, momentum, eps)
    return b.emit(ops.GroupNorm(x.shape[1], eps), x, *present(weight, bias))


@rule("aten.layer_norm")
def _(b: Builder, x, normalized_shape, weight=None, bias=None, eps=1e-5, cudnn_enable=False):
    return b.emit(ops.LayerNorm(len(normalized_shape), eps), x, *present(weight, bias))


@rule("aten.native_layer_norm")
def _(b: Builder, x, normalized_shape, weight, bias, eps):
    return [RULES["aten.layer_norm"](b, x, normalized_shape, weight, bias, eps), None, None]


@rule("aten.native_group_norm")
def _(b: Builder, x, weight, bias, n, c, pixels, groups, eps):
    return [RULES["aten.group_norm"](b, x, groups, weight, bias, eps), None, None]


# ---------------------------------------------------------------------------------- pooling


@image_rule("aten.max_pool2d_with_indices")
def _(b: Builder, x, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False):
    window = (
        pair(kernel_size), pair(stride or kernel_size), even_padding(padding), pair(dilation),
        ceil_mode,
    )  # fmt: skip
    places = b.emit(ops.MaxPoolIndices(*window), x) if 1 in b.read else None
    return [b.emit(ops.MaxPool2d(*window), x), places]


@rule("aten.max_pool2d")
def _(b: Builder, *arguments, **named):
    return RULES["aten.max_pool2d_with_indices"](b, *arguments, **named)[0]


@image_rule("aten.avg_pool2d")
def _(
    b: Builder, x, kernel_size, stride=(), padding=0, ceil_mode=False, count_include_pad=True,
    divisor_override=None,
):  # fmt: skip
    op = ops.AvgPool2d(
        pair(kernel_size), pair(stride or kernel_size), even_padding(padding), ceil_mode,
        count_include_pad, divisor_override,
    )  # fmt: skip
    return b.emit(op, x)


@image_rule("aten.adaptive_avg_pool2d", "aten._adaptive_avg_pool2d")
def _(b: Builder, x, output_size):
    return b.emit(ops.AdaptivePool2d("mean", pair(output_size)), x)


def reduce(b: Builder, function: Any, x: Value, dim: Ints | None, keepdim: bool) -> Value:
    """Reduce over the axes `dim`, all of them where there are none."""
    axes = range(x.rank) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    return b.emit(ops.Reduce(function, tuple(sorted(x.axis(a) for a in axes)), keepdim), x)


@rule("aten.amax")
def _(b: Builder, x, dim=None, keepdim=False):
    return reduce(b, "max", x, dim, keepdim)


@rule("aten.amin")
def _(b: Builder, x, dim=None, keepdim=False):
    return reduce(b, "min", x, dim, keepdim)


# ------------------------------------------------------------------------------ element by element

PLAIN: dict[str, ops.Function] = {
    "relu": "relu", "relu6": "relu6", "hardswish": "hard_swish", "hardsigmoid": "hard_sigmoid",
    "sigmoid": "sigmoid", "silu": "silu", "tanh": "tanh", "mish": "mish", "sqrt": "sqrt",
    "rsqrt": "reciprocal_sqrt", "exp": "exp", "log": "log", "abs": "abs", "neg": "negative",
    "erf": "erf",
}  # fmt: skip


def plain(function: ops.Function) -> Rule:
    """Return the rule of an operator that is one of our functions, without parameters."""
    return lambda b, x: b.emit(ops.Activation(function), x)


RULES |= {f"aten.{name}": plain(function) for name, function in PLAIN.items()}


@rule("aten.gelu")
def _(b: Builder, x, approximate="none"):
    return b.emit(ops.Activation("gelu" if approximate == "none" else "gelu_tanh"), x)


@rule("aten.leaky_relu")
def _(b: Builder, x, negative_slope=0.01):
    return b.emit(ops.Activation("leaky_relu", (negative_slope,)), x)


@rule("aten.square")
def _(b: Builder, x):
    return b.emit(ops.Binary("multiply"), x, x)


@rule("aten.prelu")
def _(b: Builder, x, weight):
    return b.emit(ops.PRelu(), x, weight)


@rule("aten.softmax", "aten._softmax")
def _(b: Builder, x, dim, *_unused):
    return b.emit(ops.Softmax(x.axis(dim)), x)


def binary(b: Builder, function: Any, x: Value | float, y: Value | float) -> Value:
    """Combine two tensors, or a tensor and a number."""
    dtype = next(v.type.dtype for v in (x, y) if isinstance(v, Value))
    values = [v if isinstance(v, Value) else b.literal(v, dtype) for v in (x, y)]
    if dtype == "bool":
        function = {"add": "maximum", "multiply": "minimum"}.get(function, function)
    return b.emit(ops.Binary(function), *values)


@rule("aten.add")
def _(b: Builder, x, y, alpha=1):
    return binary(b, "add", x, y if alpha == 1 else binary(b, "multiply", y, alpha))


@rule("aten.sub")
def _(b: Builder, x, y, alpha=1):
    return binary(b, "subtract", x, y if alpha == 1 else binary(b, "multiply", y, alpha))


@rule("aten.rsub")
def _(b: Builder, x, y, alpha=1):
    return RULES["aten.sub"](b, y, x, alpha)


@rule("aten.mul", "aten.multiply")
def _(b: Builder, x, y):
    return binary(b, "multiply", x, y)


@rule("aten.maximum")
def _(b: Builder, x, y):
    return binary(b, "maximum", x, y)


@rule("aten.minimum")
def _(b: Builder, x, y):
    return binary(b, "minimum", x, y)
