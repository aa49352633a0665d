"""Networks within others that only say how they are run."""

from torch import nn


def unwrapped(net: nn.Module) -> nn.Module:
    """Return the network within DataParallel, DistributedDataParallel or torch.compile's module."""
    while True:
        if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
            net = net.module
        elif isinstance(compiled := getattr(net, "_orig_mod", None), nn.Module):
            net = compiled
        else:
            return net
