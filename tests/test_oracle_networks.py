"""Plans of whole networks, done by the oracle for every target, optimisation and thread count."""

from itertools import product

import pytest
import torch
from tiers import slow_where

import depthwise as dw
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.planning import make_plan
from depthwise.compiler.schedule.partition import Optimize
from depthwise.compiler.verification.oracle import check_plan
from depthwise.graph import Graph, capture, export
from depthwise.runtime.target import find_target

NETWORKS = sorted(dw.list_models())
LEAST = {"alexnet": 67, "alexnet_torchvision": 67, "inception_v3": 75, "inception_v4": 75,
         "inception_resnet_v2": 75, "vgg16": 32}  # fmt: skip

HEAVY = {"vgg16", "vgg16_bn", "alexnet", "alexnet_torchvision", "senet154", "resnet101",
         "resnet152", "inception_resnet_v2", "inception_v4"}  # fmt: skip

# lanes 16, 8 and 4; each network takes two of these, in turn, and a heavy one takes one
WAYS: tuple[tuple[str, Optimize | None, int], ...] = (
    ("x86-64-v4", "speed", 1), ("aarch64", "memory", 1), ("x86-64-v3", "speed", 2),
    ("x86-64-v4", "memory", 4), ("wasm32", None, 1), ("x86-64-v3", "memory", 1),
    ("aarch64", "speed", 4),
)  # fmt: skip
CHANNELS_LAST = (
    "convnext_atto", "convnext_femto", "convnext_pico", "inception_next_atto", "convnextv2_atto",
)  # fmt: skip


def graph_of(name: str, size: int) -> Graph:
    return rewrite(capture(export(dw.create_model(name).eval(), [(1, 3, size, size)])))


# those that are made as another one is, and larger
LARGER = (
    "alexnet_torchvision", "googlenet_torchvision", "inception_resnet_v2", "resnet34", "resnet101",
    "resnet152", "senet154", "vgg16", "vgg16_bn",
)  # fmt: skip


@pytest.mark.parametrize("name", slow_where(lambda name: name in LARGER, NETWORKS))
def test_small_images(name: str):
    graph, at = graph_of(name, LEAST.get(name, 40)), NETWORKS.index(name)
    for target, optimize, threads in (
        WAYS[(2 * at + i) % len(WAYS)] for i in range(2 - (name in HEAVY))
    ):
        check_plan(make_plan(graph, find_target(target), optimize, threads))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_way(name: str):
    graph = graph_of(name, max(96, LEAST.get(name, 0)))
    for target, optimize, threads in product(
        ("x86-64-v4", "x86-64-v3", "aarch64"), ("speed", "memory", None), (1, 2, 4)
    ):
        check_plan(make_plan(graph, find_target(target), optimize, threads))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "ghostnet", "resnet50", "vgg16", "inception_v3"])
def test_images_of_their_own_size(name: str):
    graph = graph_of(name, 299 if "inception" in name else 224)
    for optimize in ("speed", "memory"):
        check_plan(make_plan(graph, find_target("aarch64"), optimize=optimize))


@pytest.mark.slow
@pytest.mark.parametrize("size", [128, 192, 224, 256])
@pytest.mark.parametrize("name", CHANNELS_LAST)
def test_networks_with_channels_last(name: str, size: int):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model(name, pretrained=False).eval()
    graph = rewrite(capture(export(net, [(1, 3, size, size)])))
    for target in ("x86-64-v4", "aarch64", "wasm32"):
        for optimize in ("speed", "memory"):
            check_plan(make_plan(graph, find_target(target), optimize=optimize))


def test_a_network_with_channels_last():
    timm = pytest.importorskip("timm")
    net = timm.create_model("convnext_atto", pretrained=False).eval()
    graph = rewrite(capture(export(net, [(1, 3, 64, 64)])))
    check_plan(make_plan(graph, find_target("wasm32"), optimize="memory"))
