"""A loss that is no number any more: found before it spoils the weights, and where it began."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from depthwise.errors import DepthwiseError


class Diverged(DepthwiseError):  # noqa: N818
    """A loss became infinite or no number: the message names the step and the first layer."""


def check_finite(loss: Tensor, net: nn.Module, images: Tensor, step: int) -> None:
    """Raise Diverged for a loss that is infinite or no number."""
    if loss.isfinite():
        return
    where = first_bad_layer(net, images)
    raise Diverged(
        f"at step {step} the loss became {loss.item()}: {where}. The run keeps the weights of its "
        "best epoch; train again with a lower learning rate, or with precision fp32"
    )


def first_bad_layer(net: nn.Module, images: Tensor) -> str:
    """Return in words where numbers first stop being finite when images pass through a network."""
    for name, parameter in net.named_parameters():
        if not parameter.isfinite().all():
            return f"the weights {name} were infinite or no numbers before it"
    found: list[str] = []

    def watch(name: str) -> Callable:
        def look(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                found.append(name)

        return look

    leaves = [(name, each) for name, each in net.named_modules() if not [*each.children()]]
    hooks = [each.register_forward_hook(watch(name)) for name, each in leaves]
    try:
        with torch.no_grad():
            net(images)
    finally:
        for hook in hooks:
            hook.remove()
    return f"first in what {found[0]} returns" if found else "in no layer, but in the loss itself"
