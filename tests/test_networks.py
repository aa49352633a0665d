"""Every network against its published counts, its twins elsewhere, and what training needs."""

import csv
import inspect
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from tiers import slow_where
from torch import nn

from depthwise.analysis import cost
from depthwise.families import construct, list_models
from depthwise.families.dense import OutputStride
from depthwise.layers import SqueezeExcite
from depthwise.weights import load_weights

FACTS = list(
    csv.DictReader((Path(__file__).parent / "facts" / "networks.csv").read_text().splitlines())
)

# The smallest side at which a network's own strides leave pixels to the end, where 64 is too small.
SMALLEST = {"alexnet": 99, "inception_v3": 75, "inception_v4": 75, "inception_resnet_v2": 75}


def side(name: str) -> int:
    return SMALLEST.get(name, 32 if name.endswith("cifar") else 64)


# made of the blocks of another network that is tested beside them, and longer or wider
LARGER = (
    "alexnet_torchvision", "googlenet_torchvision", "inception_resnet_v2", "mobilenet_v3_large",
    "resnet34", "resnet101", "resnet152", "senet154", "vgg16", "vgg16_bn",
)  # fmt: skip


def without_larger(names: Iterable[str]) -> list:
    """Return the names as parameters of a test, the larger networks in the slow tier."""
    return slow_where(lambda name: name in LARGER, names)


def beginning(name: str, blocks: int, channels: int) -> nn.Module:
    """Return a network that ends after some blocks, which return so many channels."""
    net = construct(name)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)
    return nn.Sequential(net.stem, net.blocks[:blocks], *head)


def read_options(text: str) -> dict:
    return json.loads(text) if text else {}


@cache
def cost_on_meta(name: str, options: str, size: int):
    with torch.device("meta"):
        net = construct(name, **read_options(options))
    return cost(net, (1, 3, size, size))


@pytest.mark.parametrize("row", FACTS, ids=lambda r: f"{r['network']}-{r['input']}-{r['note']}")
def test_counts_are_the_published_ones(row):
    found = cost_on_meta(row["network"], row["options"], int(row["input"]))
    assert found.params == int(row["params"])
    if row["macs"]:
        assert found.macs == int(row["macs"])


@pytest.mark.parametrize(
    ("name", "options", "millions"),
    [
        ("vgg16_cifar", "", "313.46"),
        ("vgg16_cifar", '{"conv": "depthwise.layers:GhostModule"}', "158.1"),
        ("resnet56_cifar", "", "125.5"),
        ("resnet56_cifar", '{"conv": "depthwise.layers:GhostModule"}', "65.3"),
        ("mobilenet_v1", '{"shallow": true}', "307"),  # at 224, table 5
    ],
)
def test_counts_published_in_millions(name, options, millions):
    found = cost_on_meta(name, options, 224 if name.startswith("mobilenet") else 32)
    digits = len(millions.partition(".")[2])
    assert f"{found.macs / 1e6:.{digits}f}" == millions


def test_every_network_has_a_fact():
    # BN-Inception has no twin and no published exact count; its own test stands below
    assert {row["network"] for row in FACTS} | {"bn_inception"} == set(list_models())


def test_bn_inception_is_figure_5_of_its_paper():
    # 11,295,240 parameters of a well-known port with a plain 7x7 stem = ours + its 10,016 biases
    # of convolutions that stand before a BatchNorm
    found = cost_on_meta("bn_inception", '{"stem_conv": "depthwise.layers:conv2d"}', 224)
    assert found.params == 11_295_240 - 10_016


# ------------------------------------------------------------------------------------- twins

TORCHVISION_OPTIONS = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}

TWINS = [
    *((f"{name}_torchvision", {}, f"torchvision:{name}") for name in ("alexnet", "googlenet")),
    *(
        (name, {}, f"torchvision:{name}")
        for name in (
            "vgg16", "vgg16_bn", "inception_v3", "resnet18", "resnet34", "resnet50", "resnet101",
            "resnet152", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small",
        )
    ),
    *(
        (name, {}, f"timm:{name}")
        for name in (
            "vgg16", "vgg16_bn", "inception_v3", "inception_v4", "inception_resnet_v2", "resnet18",
            "resnet50",
        )
    ),
    ("se_resnet50", {}, "timm:legacy_seresnet50"),
    ("senet154", {}, "timm:legacy_senet154"),
    ("xception", {}, "timm:legacy_xception"),
    ("mobilenet_v1", {}, "timm:mobilenetv1_100"),
    ("mobilenet_v2", {}, "timm:mobilenetv2_100"),
    ("mobilenet_v2", {"width": 1.4}, "timm:mobilenetv2_140"),
    ("mobilenet_v3_large", {}, "timm:mobilenetv3_large_100"),
    ("mobilenet_v3_large", {"width": 0.75}, "timm:mobilenetv3_large_075"),
    ("mobilenet_v3_small", {}, "timm:mobilenetv3_small_100"),
    ("mobilenet_v3_small", {"width": 0.75}, "timm:mobilenetv3_small_075"),
    ("ghostnet", {}, "timm:ghostnet_100"),
    ("ghostnet", {"width": 0.5}, "timm:ghostnet_050"),
    ("ghostnet", {"width": 1.3}, "timm:ghostnet_130"),
]  # fmt: skip


def build_twin(spec: str) -> nn.Module:
    source, name = spec.split(":")
    if source == "timm":
        return timm.create_model(name)
    return getattr(torchvision.models, name)(weights=None, **TORCHVISION_OPTIONS.get(name, {}))


def randomize(net: nn.Module) -> None:
    """Draw all weights and statistics so that signals neither die nor blow up on their way."""
    generator = torch.Generator().manual_seed(0)

    def uniform(tensor, low, high):
        tensor.data.uniform_(low, high, generator=generator)

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            module.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            uniform(module.weight, 0.5, 1.5)
            uniform(module.running_mean, -0.2, 0.2)
            uniform(module.running_var, 0.5, 1.5)
        if getattr(module, "bias", None) is not None:
            uniform(module.bias, -0.1, 0.1)


@pytest.mark.parametrize(("name", "options", "spec"), TWINS, ids=str)
def test_twins_weights_give_the_twins_outputs(name, options, spec):
    twin = build_twin(spec).eval()
    randomize(twin)
    net = construct(name, **options).eval()
    load_weights(net, twin.state_dict())
    small = side(name)
    for batch, height, width in ((1, small, small + 37), (3, small + 32, small + 32)):
        x = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            ours, theirs = net(x), twin(x)
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
        spread = (theirs - theirs.mean(1, keepdim=True)).abs().max()
        assert spread > 1e-3 * theirs.abs().max(), "the outputs say nothing about the weights"


# ---------------------------------------------------------------------------------- training


@pytest.mark.parametrize("name", list_models())
def test_every_parameter_learns_and_round_trips(name, tmp_path):
    torch.manual_seed(0)
    net = construct(name, num_classes=7).train()
    size = side(name)
    scores = net(torch.randn(2, 3, size, size))
    assert scores.shape == (2, 7)
    nn.functional.cross_entropy(scores, torch.tensor([1, 5])).backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, f"{parameter_name} has none"
        assert parameter.grad.isfinite().all(), f"{parameter_name} is not finite"

    save_file(net.state_dict(), tmp_path / "net.safetensors")
    loaded = load_file(tmp_path / "net.safetensors")
    assert loaded.keys() == net.state_dict().keys()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in net.state_dict().items())


@pytest.mark.parametrize("name", list_models())
def test_channels_and_classes_are_options(name):
    with torch.device("meta"):
        net = construct(name, in_channels=1, num_classes=3).eval()
        assert net(torch.empty(2, 1, side(name), side(name))).shape == (2, 3)


# -------------------------------------------------------------------- strides and resolutions


def takes(name: str, option: str) -> bool:
    from depthwise.families import find_network

    return option in find_network(name).options


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", [n for n in list_models() if takes(n, "output_stride")])
def test_output_stride_computes_the_same_maps_more_densely(name, output_stride):
    """Every 32 / output_stride-th pixel of the dense features is the strided network's own."""
    torch.manual_seed(0)
    strided = construct(name).eval()
    dense = construct(name, output_stride=output_stride).eval()
    dense.load_state_dict(strided.state_dict())
    for net in (strided, dense):  # a gate averages over the map, which is finer here
        for gate in [m for m in net.modules() if isinstance(m, SqueezeExcite)]:
            gate.forward = lambda x: x
    x = torch.randn(1, 3, 97, 97)
    with torch.no_grad():
        coarse, fine = strided.features(x), dense.features(x)
    rate = 32 // output_stride
    assert rate * (coarse.shape[2] - 1) < fine.shape[2] <= rate * coarse.shape[2]
    assert (fine[..., ::rate, ::rate] - coarse).abs().max() <= 1e-5 * coarse.abs().max()


@pytest.mark.parametrize("name", [n for n in list_models() if takes(n, "stem_stride")])
def test_a_smaller_stem_stride_keeps_more_pixels(name):
    with torch.device("meta"):
        x = torch.empty(1, 3, 97, 97)
        usual = construct(name).eval().features(x).shape
        smaller = construct(name, stem_stride=1).eval().features(x).shape
    assert smaller[1] == usual[1]
    assert smaller[2] >= 2 * usual[2] - 1


def test_output_stride_takes_what_its_type_says():
    assert OutputStride.__args__ == (8, 16, 32)
    with pytest.raises(ValueError, match=r"mobilenet_v2: option output_stride=12: "):
        construct("mobilenet_v2", output_stride=12)


# ------------------------------------------------------------------------------- bad options


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mobilnet_v2", {}, "no network is named 'mobilnet_v2': the nearest are mobilenet_v2"),
        ("zzz", {}, "no network is named 'zzz': none is near; `depthwise networks` lists all"),
        ("mobilenet_v1", {"width": 0.001}, "width=0.001 leaves 0 of 32 channels: take at least "),
        ("mobilenet_v2", {"width": 0.0}, "width=0.0 leaves 0 of 32 channels"),
        ("mobilenet_v2", {"width": "wide"}, "mobilenet_v2: option width='wide': Input should be "),
        ("vgg16", {"width": 0.5}, "vgg16 has no option 'width': it takes num_classes, in_channels"),
        ("resnet50", {"num_classes": 0}, "resnet50: option num_classes=0: Input should be greater"),
    ],
)
def test_bad_options_say_what_is_accepted(name, options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the message is the test)
        construct(name, **options)
    assert str(error.value).startswith(message)


def test_options_are_the_builders_own_parameters():
    from depthwise.families import find_network
    from depthwise.families.mobilenet import mobilenet_v2

    assert find_network("mobilenet_v2").options == dict(inspect.signature(mobilenet_v2).parameters)
