"""The rules of signals (N, C, T): those of images, of height 1."""

from collections.abc import Callable
from typing import Any

from depthwise.graph import ops
from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.torch.aten import RULES, Ints, Rule, image_rule, rule
from depthwise.graph.ops import Pair


def flat(x: Value, b: Builder) -> Value:
    """Return a signal, or its kernel (K, C, S), as an image of height 1."""
    return b.emit(ops.Reshape((*x.shape[:2], 1, x.shape[2])), x)


def signal_rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule of signals that is given one as images; its result becomes a signal again.

    A signal without a batch becomes a batch of one.
    """

    def register(function: Rule) -> Rule:
        def lowered(b: Builder, x: Value, *arguments, **named) -> Any:
            result = function(b, flat(x, b), *arguments, **named)
            several = result if isinstance(result, list) else [result]
            signals = [y and b.emit(ops.Reshape((*y.shape[:2], y.shape[3])), y) for y in several]
            return signals if isinstance(result, list) else signals[0]

        return image_rule(*names, rank=3)(lowered)

    return register


def across(value: Ints, down: int = 1) -> Pair:
    """Return (vertical, horizontal) of a signal's number, which may stand in a list."""
    return down, value if isinstance(value, int) else value[0]


def window(kernel_size: Ints, stride: Ints, padding: Ints) -> tuple[Pair, Pair, Pair]:
    """Return the kernel, stride and padding of a pooling; the stride may be left out."""
    return across(kernel_size), across(stride or kernel_size), across(padding, 0)


@signal_rule("aten.conv1d")
def _(b: Builder, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    pads = padding if isinstance(padding, str) else across(padding, 0)
    convolve = RULES["aten.conv2d"]
    return convolve(b, x, flat(weight, b), bias, across(stride), pads, across(dilation), groups)


@signal_rule("aten.conv_transpose1d")
def _(
    b: Builder, x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):  # fmt: skip
    return RULES["aten.conv_transpose2d"](
        b, x, flat(weight, b), bias, across(stride), across(padding, 0), across(output_padding, 0),
        groups, across(dilation),
    )  # fmt: skip


@signal_rule("aten.max_pool1d_with_indices")
def _(b: Builder, x, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False):
    pool = RULES["aten.max_pool2d_with_indices"]
    return pool(b, x, *window(kernel_size, stride, padding), across(dilation), ceil_mode)


@rule("aten.max_pool1d")
def _(b: Builder, *arguments, **named):
    return RULES["aten.max_pool1d_with_indices"](b, *arguments, **named)[0]


@signal_rule("aten.avg_pool1d")
def _(b: Builder, x, kernel_size, stride=(), padding=0, ceil_mode=False, count_include_pad=True):
    pool = RULES["aten.avg_pool2d"]
    return pool(b, x, *window(kernel_size, stride, padding), ceil_mode, count_include_pad)


@signal_rule("aten.adaptive_avg_pool1d")
def _(b: Builder, x, output_size):
    return b.emit(ops.AdaptivePool2d("mean", across(output_size)), x)


@signal_rule("aten.adaptive_max_pool1d")
def _(b: Builder, x, output_size):
    return RULES["aten.adaptive_max_pool2d"](b, x, across(output_size))
