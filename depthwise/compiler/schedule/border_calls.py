"""The calls that set what lies around images: zeros, or of bytes the one that stands for 0."""

from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.views import Buffer, TensorView
from depthwise.compiler.work import Arguments
from depthwise.graph.dtypes import UINT8


def border_call(
    home: Buffer, arguments: Arguments, step: KernelCall, comment: str = ""
) -> KernelCall:
    """Return the call that sets what lies around images, as `home` says, ahead of a step."""
    if home.element == UINT8:
        assert home.frame is not None
        around = {**arguments, "value": home.frame.value}
        return KernelCall("u8_surround", around, step.name, step.path, comment)
    kernel = f"{home.element.short}_fill_border"
    return KernelCall(kernel, arguments, step.name, step.path, comment)


def fill_call(home: Buffer, view: TensorView, step: KernelCall, comment: str) -> KernelCall:
    """Return the call that fills whole rows with what lies around the images of `home`."""
    once = {"n": (1, 1, 1), "count": view.shape[0], "y_stride": (0, 0, 0), "y": view}
    if home.element == UINT8:
        assert home.frame is not None
        around = {**once, "value": home.frame.value}
        return KernelCall("u8_fill_bytes", around, step.name, step.path, comment)
    kernel = f"{home.element.short}_fill"
    return KernelCall(kernel, {**once, "value": 0.0}, step.name, step.path, comment)
