"""Dilation in place of stride: a classifier's trunk for dense prediction."""

from typing import Any, Literal

from torch import nn

OutputStride = Literal[8, 16, 32]


def dilate_blocks(blocks: nn.Sequential, stride: int, output_stride: OutputStride) -> nn.Sequential:
    """Keep the output at 1/output_stride of the input: later strides become dilations; weights fit.

    `stride` is the stride of what stands before `blocks`. Within a block whose stride is taken
    away, the strided layer still sees the old grid; all after it see it dilated.
    Yu & Koltun, arXiv:1511.07122; Chen et al., arXiv:1706.05587, section 3.1.
    Changes `blocks` and returns it.
    """
    rate = 1
    for block in blocks:
        step = _stride_of(block)
        removed = step if stride * step > output_stride else 1
        stride = stride * step // removed
        before, rate = rate, rate * removed
        passed = False  # members stand in the order in which they run, shortcuts last
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                strided = _pair(layer.stride) != (1, 1)
                passed |= strided
                on_new_grid = removed == 1 or (passed and not strided)
                _dilate(layer, rate if on_new_grid else before, keep_stride=removed == 1)
    return blocks


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _stride_of(block: nn.Module) -> int:
    """Return a block's stride: the product along one path is the largest that a layer has."""
    strides = [
        _pair(m.stride)[0] for m in block.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d)
    ]
    return max(strides, default=1)


def _dilate(layer: nn.Conv2d | nn.MaxPool2d, rate: int, keep_stride: bool) -> None:
    kernel_size, padding = _pair(layer.kernel_size), _pair(layer.padding)
    same = all(p == (k - 1) // 2 for p, k in zip(padding, kernel_size, strict=True))
    assert same, "only 'same' layers can be dilated"
    if not keep_stride:
        layer.stride = (1, 1)
    if kernel_size == (1, 1):
        return
    layer.padding = (padding[0] * rate, padding[1] * rate)
    layer.dilation = (rate, rate)
