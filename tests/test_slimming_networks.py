"""Whole networks: as many groups of channels as another tool finds; half of their MACs."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import depthwise as dw
from depthwise.analysis.count import count_macs
from depthwise.graph import Graph
from depthwise.graph.exporters.torch import to_module
from depthwise.slimming.channels.groups import find_groups
from depthwise.slimming.channels.widths import narrow
from depthwise.slimming.draft import Draft

TABLE = Path(__file__).parent / "facts" / "channel_groups.csv"
QUICK = ("resnet20_cifar", "mobilenet_v3_small")
with TABLE.open() as file:
    GROUPS = [(row["network"], int(row["groups"])) for row in csv.DictReader(file)]
TIMM = (
    "resnet18", "resnet26d", "resnet50_gn", "resnext50_32x4d", "seresnext26t_32x4d", "skresnet18",
    "resnest14d", "densenet121", "vgg11_bn", "mobilenetv2_050", "mobilenetv3_small_100",
    "mobilenetv4_conv_small", "efficientnet_b0", "mixnet_s", "mnasnet_small", "fbnetc_100",
    "ghostnet_100", "regnetx_002", "regnety_002", "repvgg_a0", "dla34", "hrnet_w18_small",
    "cspresnet50", "xception41", "convnext_atto", "rexnet_100", "gernet_s", "selecsls42b",
    "ese_vovnet19b_dw", "lcnet_050", "efficientvit_b0", "nf_resnet26",
)  # fmt: skip
NETWORKS = [*dw.list_models(), *(f"timm:{name}" for name in TIMM)]


# pixels that a network needs at least, where 64 are too few
LEAST = {"alexnet": 67, "alexnet_torchvision": 67, "inception_v3": 96, "inception_v4": 96,
         "inception_resnet_v2": 96}  # fmt: skip


def graph_of(name: str) -> Graph:
    side = 32 if name.endswith("cifar") else LEAST.get(name, 64)
    return dw.open(name, (1, 3, side, side)).graph


def slow_but(quick: tuple[str, ...], name: str, *values: object) -> object:
    return pytest.param(name, *values, marks=() if name in quick else pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "count"), [slow_but(QUICK, name, count) for name, count in GROUPS]
)
def test_there_are_as_many_groups_as_torch_pruning_finds(name, count):
    """The table is kept by bench/slimming/coupled_channels.py."""
    assert len(find_groups(graph_of(name)).groups) == count


def macs(graph: Graph) -> int:
    return sum(count_macs(graph, node) or 0 for node in graph)


@pytest.mark.parametrize("name", [slow_but((), name) for name in NETWORKS])
def test_half_of_the_macs_still_trains_and_compiles(name):
    graph = graph_of(name)
    after = narrow(Draft(graph), 0.7).graph
    assert 0.35 < macs(after) / macs(graph) < 0.75
    torch.manual_seed(0)
    net = to_module(after).train()
    shape = next(iter(after.inputs.values())).shape
    images = torch.randn(4, *shape[1:])
    found = net(images)
    scores = found[0] if isinstance(found, tuple | list) else found
    F.cross_entropy(scores.flatten(1), torch.tensor([0, 1, 2, 3])).backward()
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    library = dw.compile(after)  # which compares it with the graph
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with torch.no_grad():
        wanted = to_module(after).eval()(torch.tensor(x))
    wanted = wanted[0] if isinstance(wanted, tuple | list) else wanted
    given = np.asarray(library(x))
    np.testing.assert_allclose(
        given, wanted.numpy(), atol=1e-4 * float(wanted.abs().max()), rtol=1e-3
    )
