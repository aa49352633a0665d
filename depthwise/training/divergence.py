"""A loss that is no number any more: found before it spoils the weights, and where it began."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from depthwise.errors import DepthwiseError
from depthwise.training.distributed import World
from depthwise.training.evaluation import Evaluation

AGAIN = (
    "The run keeps the weights of its best epoch, if one is over; train again with a lower "
    "learning rate, or with precision fp32"
)


class Diverged(DepthwiseError):  # noqa: N818
    """A loss became infinite or no number: the message names the step and the first layer."""


def finite_mean(loss: float, net: nn.Module, images: Tensor, step: int, world: World) -> float:
    """Return the mean of the losses of all processes.

    Raises Diverged, in every process, where one is infinite or no number.
    """
    mean = world.mean(loss)
    if math.isfinite(mean):
        return mean
    own = "" if math.isfinite(loss) else first_bad_layer(net, images)
    where = world.first(own) or "in no layer, but in the loss itself"
    raise Diverged(f"at step {step} the loss became {mean}: {where}. {AGAIN}")


def check_judged(found: Evaluation, net: nn.Module, see: Callable[[int], Tensor]) -> None:
    """Raise Diverged where a network that is judged gives an image scores that are no numbers.

    Args:
        found: Its scores.
        net: The network.
        see: Gives an image of those by its place, as the network sees it: (1, 3, H, W).
    """
    bad = found.without_numbers
    if not len(bad):
        return
    where = first_bad_layer(net, see(bad[0])) or "in no layer alone"
    raise Diverged(
        f"of {len(found.labels)} images on which the epoch was judged {len(bad)} got scores that "
        f"are infinite or no numbers, the first of them {found.names[bad[0]]}: {where}. {AGAIN}"
    )


def first_bad_layer(net: nn.Module, images: Tensor) -> str:
    """Return in words where numbers first stop being finite when images pass through a network.

    Nothing where they do not.
    """
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
    return f"first in what {found[0]} returns" if found else ""
