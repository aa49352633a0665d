"""The tree of modules that a network's weights lie in, with the names of its state dict."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from depthwise.graph.exporters.torch.layers import TorchLayer
from depthwise.graph.graph import Constant


class ModuleFolder(nn.Module):
    """Holds modules and weights under the names that they have; the network computes with them."""


def plant(root: nn.Module, layers: Iterable[TorchLayer], constants: dict[str, Constant]) -> None:
    """Put layers and constants where their names say, in the order in which they are used."""
    layers = list(layers)
    children: dict[str, set[str]] = defaultdict(set)
    for path in (*(layer.path for layer in layers), *constants):
        parts = path.split(".")
        for depth, own in enumerate(parts):
            children[".".join(parts[:depth])].add(own)
    planted: dict[str, nn.Module] = {"": root}
    made = {layer.path: layer for layer in layers}

    def module_at(path: str) -> nn.Module:
        if path not in planted:
            parent, _, own = path.rpartition(".")
            numbered = any(name.isdecimal() for name in children[path])
            holder = nn.ModuleDict if numbered else ModuleFolder
            module = made[path].make() if path in made else holder()
            planted[path] = module_at(parent)._modules[own] = module
        return planted[path]

    for layer in layers:
        module_at(layer.path)
    for name, constant in constants.items():
        path, _, own = name.rpartition(".")
        learns = constant.trainable or any(
            constants[source].trainable for source in constant.sources if source in constants
        )  # what was computed of a parameter takes its place
        put(module_at(path), own, tensor_of(constant), learns)
    for module in planted.values():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.num_batches_tracked = torch.tensor(0)


def put(module: nn.Module, name: str, tensor: Tensor, trainable: bool) -> None:
    """Give a module a parameter or a buffer in the place of what it has under a name."""
    module._parameters.pop(name, None)
    module._buffers.pop(name, None)
    if trainable and tensor.is_floating_point():
        module._parameters[name] = nn.Parameter(tensor)
    else:
        module._buffers[name] = tensor


def tensor_of(constant: Constant) -> Tensor:
    """Return a tensor with memory of its own; on the meta device where there is no data."""
    dtype = getattr(torch, constant.type.dtype)
    if constant.data is None:
        return torch.empty(constant.type.shape, dtype=dtype, device="meta")
    return torch.from_numpy(constant.data.copy()).view(dtype)
