"""Our groups of channels beside Torch-Pruning's: `python bench/slimming/coupled_channels.py`.

Torch-Pruning (1.6, https://github.com/VainF/Torch-Pruning) is no dependency: install it, or say
with PYTHONPATH where it lies. For each network it prints how many groups agree: have the same
layers that give channels and the same that read them, and those that do not.

Where a value is joined of two parts, and divided again at the same place by the layers that read
it, as in MixNet, Torch-Pruning 1.6.1 takes what reads the second part for a reader of the first:
in timm's mixnet_s `blocks.4.1.conv_pw.1` reads channels 60 to 119 of 120, which
`blocks.4.0.conv_pwl.1` gives, and not `.0`. There 30 of our 40 groups are the same.
"""

import argparse
import sys
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn

import depthwise as dw
from depthwise.slimming.channels.groups import find_groups

TIMM = (
    "resnet18", "resnet26d", "wide_resnet50_2", "resnext50_32x4d", "seresnet18", "skresnet18",
    "densenet121", "vgg11_bn", "mobilenetv2_050", "mobilenetv3_small_100", "mobilenetv4_conv_small",
    "efficientnet_b0", "efficientnet_lite0", "mixnet_s", "mnasnet_small", "fbnetc_100",
    "ghostnet_100", "regnetx_002", "regnety_002", "repvgg_a0", "dla34", "hrnet_w18_small",
    "cspresnet50", "cspdarknet53", "darknet53", "xception41", "inception_v3", "convnext_atto",
    "rexnet_100", "gernet_s", "selecsls42b", "ese_vovnet19b_dw", "lcnet_050", "tinynet_e",
)  # fmt: skip


class Coupled(NamedTuple):
    """A group: the layers that give its channels, and those that read them."""

    writers: frozenset[str]
    readers: frozenset[str]


def ours(net: nn.Module, shape: tuple[int, ...]) -> dict[Coupled, int]:
    """Return our groups, and how many units each has."""
    graph = dw.open(net, shape).graph
    nodes = {node.name: node for node in graph}
    found = {}
    for group in find_groups(graph).groups.values():
        names = [
            frozenset(nodes[member.node].path for member in members)
            for members in (group.writers, group.readers)
        ]
        found[Coupled(*names)] = group.units
    return found


def theirs(net: nn.Module, shape: tuple[int, ...]) -> dict[Coupled, int]:
    """Return Torch-Pruning's groups, and how many channels each root has."""
    import torch_pruning as tp  # noqa: PLC0415

    paths = {module: name for name, module in net.named_modules()}
    graph = tp.DependencyGraph().build_dependency(net, example_inputs=torch.zeros(shape))
    plain = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    found = {}
    for group in graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]):
        writers, readers = set(), set()
        for dependency, _ in group:
            layer = dependency.target.module
            if not isinstance(layer, plain) or _is_depthwise(layer):
                continue
            gives = graph.is_out_channel_pruning_fn(dependency.handler)
            (writers if gives else readers).add(paths[layer])
        root = group[0].dep.target.module
        size = graph.get_out_channels(root)
        if readers:  # what nothing reads is an output, which stays
            found[Coupled(frozenset(writers), frozenset(readers))] = size
    return found


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1


def networks(names: Iterable[str]) -> Iterable[tuple[str, nn.Module, tuple[int, ...]]]:
    """Yield the networks of these names, each with the shape of its images."""
    for name in names:
        source = dw.open(name, *([(1, 3, 96, 96)] if name.startswith("timm:") else []))
        yield name, source.module.eval(), source.shapes[0]


def compare(name: str, net: nn.Module, shape: tuple[int, ...]) -> str:
    """Return a line on how a network's groups agree."""
    found = ours(net, shape)
    try:
        other = theirs(net, shape)
    except Exception as error:
        return f"{name}: {len(found)} groups; not traced: {type(error).__name__}: {error}"
    same = found.keys() & other.keys()
    line = f"{name}: {len(found)} groups, Torch-Pruning {len(other)}, the same {len(same)}"
    for which, groups in (("ours", found), ("theirs", other)):
        for group in list(groups.keys() - same)[:3]:
            line += f"\n  {which} alone: {groups[group]} of {sorted(group.writers)[:4]}"
            line += f" to {sorted(group.readers)[:4]}"
    return line


def main() -> None:
    """Compare all networks, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NETWORK")
    names = parser.parse_args().names
    try:
        import torch_pruning  # noqa: F401, PLC0415
    except ImportError:
        sys.exit("torch_pruning is not installed: pip install torch-pruning==1.6.1")
    for each in networks(names or [*dw.list_models(), *(f"timm:{name}" for name in TIMM)]):
        print(compare(*each), flush=True)


if __name__ == "__main__":
    main()
