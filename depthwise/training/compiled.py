"""A network as PyTorch's compiler has it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def compiled(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what computes a network, compiled when it is first called.

    The weights stay the network's own. What is returned raises ValueError where it cannot be
    compiled here.
    """
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415  (takes a second)

    model = torch.compile(net)

    def compute(images: Tensor) -> Tensor:
        try:
            return model(images)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"PyTorch cannot compile {type(net).__name__} here: {reason}; train with "
                "--no-compile"
            ) from error

    return compute
