"""Counts against closed forms, published figures, and a count by hooks of foreign networks."""

import csv
import io
import json

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from operator_cases import Function
from torch import nn

import depthwise as dw
from depthwise.analysis.receptive_field import receptive_fields
from depthwise.families import construct
from depthwise.graph import trace
from depthwise.layers import DeformConv, PlainSeparableConv, conv2d


def on_meta(build, *arguments, **options) -> nn.Module:
    with torch.device("meta"):
        return build(*arguments, **options)


# --------------------------------------------------------------------------------- multiply-adds


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Conv2d(3, 4, 3, bias=False), (1, 3, 8, 8)), (lambda: nn.Linear(3, 4), (2, 3)),
        (lambda: nn.Conv1d(3, 4, 3, bias=False), (1, 3, 8)),
    ],
)  # fmt: skip
def test_inputs_of_another_type_than_the_weights_are_not_counted_as_nothing(make, shape):
    with pytest.raises(ValueError, match="multiplies float16 by float32, for which PyTorch has"):
        dw.cost(make(), torch.zeros(shape).half())
    assert dw.cost(make().half(), torch.zeros(shape).half()).macs > 0


@pytest.mark.parametrize(
    ("net", "shape", "macs"),
    [
        # kernel² · C / groups · K · output positions
        (nn.Conv2d(8, 12, 3, 2, 1), (1, 8, 11, 9), 9 * 8 * 12 * 6 * 5),
        (nn.Conv2d(8, 12, 3, 1, 1, groups=4), (2, 8, 5, 5), 9 * 2 * 12 * 25 * 2),
        (nn.Conv2d(8, 8, 5, groups=8), (1, 8, 9, 9), 25 * 8 * 25),
        (nn.Conv2d(8, 12, (1, 7)), (1, 8, 9, 9), 7 * 8 * 12 * 9 * 3),
        # a transposed convolution: input positions, which most counters had wrong at some time
        (nn.ConvTranspose2d(8, 12, 4, 2, 1), (1, 8, 5, 5), 16 * 8 * 12 * 25),
        (nn.ConvTranspose2d(8, 12, 3, 2, groups=4), (1, 8, 5, 5), 9 * 2 * 12 * 25),
        (nn.Linear(10, 7), (3, 10), 3 * 70),
        # the offsets' convolution (18 channels) and the convolution itself
        (DeformConv(8, 12), (1, 8, 5, 5), 9 * 8 * 12 * 25 + 9 * 8 * 18 * 25),
        (DeformConv(8, 12, modulated=True), (1, 8, 5, 5), 9 * 8 * 12 * 25 + 9 * 8 * 27 * 25),
        (Function(lambda x: x @ x), (2, 6, 6), 2 * 6**3),
        # gates · hidden · (inputs + states), for each step and sequence; a projection
        (nn.LSTM(5, 7), (3, 2, 5), 6 * 4 * 7 * (5 + 7)),
        (nn.LSTM(5, 7, proj_size=2), (3, 2, 5), 6 * (4 * 7 * (5 + 2) + 7 * 2)),
        (nn.GRU(5, 7, bidirectional=True), (3, 2, 5), 2 * 6 * 3 * 7 * (5 + 7)),
        (nn.Upsample(scale_factor=2, mode="bicubic"), (1, 2, 4, 4), 0),
        (nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)), (1, 8, 4, 4), 0),
    ],
)
def test_closed_forms(net, shape, macs):
    assert dw.cost(net, shape).macs == macs


def test_standard_against_separable():
    full, split = (
        dw.cost(conv2d(3, 4), (1, 3, 5, 5)),
        dw.cost(PlainSeparableConv(3, 4), (1, 3, 5, 5)),
    )
    assert (full.params, split.params) == (108, 39)
    assert [layer.params for layer in split.layers] == [27, 12]


@pytest.mark.parametrize(("channels", "saving"), [(64, 7.89), (72, 8.0), (256, 8.69), (1024, 8.92)])
def test_separable_saves_as_the_formula_says(channels, saving):
    shape = (1, channels, 7, 7)
    full = on_meta(conv2d, channels, channels)
    split = on_meta(PlainSeparableConv, channels, channels)
    ratio = dw.cost(full, shape).macs / dw.cost(split, shape).macs
    assert ratio == pytest.approx(1 / (1 / channels + 1 / 9))
    assert round(ratio, 2) == saving


def test_mobilenet_v1_by_kind():
    cost = dw.cost(on_meta(construct, "mobilenet_v1"), (1, 3, 224, 224))
    shares = {
        kind: round(100 * macs / cost.macs, 2) for kind, (_, _, macs) in cost.by_kind().items()
    }
    shares = {kind: share for kind, share in shares.items() if share}
    assert shares == {"pointwise": 94.86, "depthwise": 3.06, "standard": 1.91, "linear": 0.18}


def test_gates_of_se_resnet_50():
    plain = dw.cost(on_meta(construct, "resnet50", stride_on="1x1"), (1, 3, 224, 224))
    gated = dw.cost(on_meta(construct, "se_resnet50"), (1, 3, 224, 224))
    gates = sum(layer.macs for layer in gated.layers if ".gate." in layer.path)
    assert gated.macs - plain.macs == gates == 2_514_944


def test_inception_3a_gives_256_maps():
    cost = dw.cost(on_meta(construct, "googlenet"), (1, 3, 224, 224))
    concat = next(layer for layer in cost.layers if layer.operator == "Concat")
    assert concat.input_shape[1] == 64
    assert concat.output_shape == (1, 256, 28, 28)


TIMM = """
resnet18d resnext50_32x4d res2net50_26w_4s densenet121 efficientnet_b0 tf_efficientnet_lite0
mnasnet_100 semnasnet_100 fbnetc_100 mobilenetv3_rw tf_mobilenetv3_large_minimal_100 hardcorenas_a
rexnet_100 regnetx_002 regnety_004 dpn68 dla34 convnext_atto convnextv2_atto repvgg_a0 cspresnet50
darknet53 eca_nfnet_l0 nf_resnet50 skresnet18 ecaresnet26t selecsls42b vovnet39a xception41
resnetv2_50 resnest14d gernet_s tinynet_a lcnet_050 mixnet_s ghostnetv2_100 mobileone_s0
repghostnet_050 hgnet_tiny mobilenetv4_conv_small poolformer_s12 inception_next_atto starnet_s1
fasternet_t0
""".split()  # noqa: SIM905  (read as words)
TORCHVISION = "squeezenet1_0 shufflenet_v2_x1_0 mnasnet0_5 convnext_tiny densenet169".split()  # noqa: SIM905


def count_by_hooks(net: nn.Module, shape) -> int:
    total = 0

    def hook(module, _inputs, output):
        nonlocal total
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features

    for module in net.modules():
        module.register_forward_hook(hook)
    with torch.no_grad():
        net.eval()(torch.empty(shape, device="meta"))
    return total


@pytest.mark.parametrize(
    "spec", [f"timm:{n}" for n in TIMM] + [f"torchvision:{n}" for n in TORCHVISION]
)
def test_networks_it_was_not_written_for(spec):
    source, name = spec.split(":")
    build = timm.create_model if source == "timm" else torchvision.models.get_model
    net = on_meta(build, name)
    shape = (1, *getattr(net, "pretrained_cfg", {}).get("input_size", (3, 224, 224)))
    cost = dw.cost(net, shape)
    assert cost.macs == count_by_hooks(net, shape)
    assert cost.params == sum(parameter.numel() for parameter in net.parameters())


# ---------------------------------------------------------------------------------- parameters


def test_shared_weights_count_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return self.shared(self.shared(x))

    cost = dw.cost(Twice(), (1, 4, 3, 3))
    assert [layer.params for layer in cost.layers] == [20, 0]
    assert (cost.params, cost.weight_bytes, cost.macs) == (20, 80, 2 * 16 * 9)


def test_parameters_that_evaluation_does_not_read_are_told_apart():
    class Auxiliary(nn.Linear):
        def __init__(self):
            super().__init__(4, 3)
            self.head = nn.Linear(4, 5)

    net = Auxiliary()
    cost = dw.cost(net, (1, 4))
    assert (cost.params, cost.unused_params) == (15 + 25, 25)
    assert "25 of the parameters are not read in evaluation" in cost.table()


def test_a_standardized_weight_counts_as_its_parameter():
    net = timm.layers.StdConv2d(4, 6, 3)
    cost = dw.cost(net, (1, 4, 5, 5))
    (layer,) = cost.layers
    assert (layer.params, cost.unused_params) == (sum(p.numel() for p in net.parameters()), 0)


# ---------------------------------------------------------------------------- bytes and memory


def test_bytes_of_a_pointwise_convolution():
    (layer,) = dw.cost(nn.Conv2d(8, 16, 1), (1, 8, 10, 10)).layers
    assert layer.weight_bytes == 4 * (8 * 16 + 16)
    assert layer.bytes_read == 4 * (8 * 100 + 8 * 16 + 16)
    assert layer.bytes_written == 4 * 16 * 100
    assert layer.intensity == 2 * 8 * 16 * 100 / (layer.bytes_read + layer.bytes_written)


def peak(function, *shapes) -> int:
    """Return the peak in units of the first input's bytes."""
    cost = dw.cost(Function(function), *shapes)
    unit = 4 * torch.Size(shapes[0]).numel()
    assert cost.peak_bytes % unit == 0
    return cost.peak_bytes // unit


X = (1, 4, 6, 6)


def test_peaks():
    weight = torch.randn(4, 4, 1, 1)

    def conv(x):
        return F.conv2d(x, weight)

    assert peak(conv, X) == 2
    assert peak(lambda x: conv(conv(conv(x))), X) == 2
    # in place: activation of a temporary; not of the input, which is the caller's
    assert peak(lambda x: conv(x).relu(), X) == 2
    assert peak(lambda x: x.relu(), X) == 2
    # a shortcut keeps its tensor alive across the branch
    assert peak(lambda x: (y := conv(x)) + conv(conv(y)), X) == 3
    assert peak(lambda x: (y := conv(x).relu()) + y.sigmoid(), X) == 2
    # concatenation is a copy: two halves and the whole
    assert peak(lambda x: torch.cat((conv(x), conv(x)), 1), X) == 4
    # a view takes nothing, and keeps what it views alive
    assert peak(lambda x: (y := conv(x)).flatten(1).relu() + y.flatten(1), X) == 2
    # outputs live to the end
    assert peak(lambda x: (conv(x), conv(conv(x))), X) == 3


def test_peak_of_mobilenet_v2_is_its_first_strided_depthwise_convolution():
    cost = dw.cost(on_meta(construct, "mobilenet_v2"), (1, 3, 224, 224))
    assert cost.peak_bytes == 4 * 96 * (112 * 112 + 56 * 56)
    assert cost.peak_layer == "blocks.1.depthwise.conv"


# ------------------------------------------------------------------------------- what pixels see


@pytest.mark.parametrize(
    ("name", "size", "field"),
    [
        # published: Araujo, Norris & Sim, Distill 2019, table of networks
        ("alexnet_torchvision", 224, 195),
        ("alexnet", 227, 195),  # its local response normalisation sees channels, not pixels
        ("vgg16", 224, 212),
        ("bn_inception", 224, 699),
        ("inception_v3", 299, 1311),
        ("inception_v4", 299, 2071),
        ("inception_resnet_v2", 299, 3039),
        ("mobilenet_v1", 224, 315),
        # 483 there, where each stage strides at its end; here at its start, on the 3x3
        ("resnet50", 224, 427),
    ],
)
def test_receptive_fields(name, size, field):
    assert dw.cost(on_meta(construct, name), (1, 3, size, size)).receptive_field == (field, field)


def test_receptive_field_is_what_gradients_reach():
    net = nn.Sequential(
        nn.Conv2d(1, 1, 3, 2), nn.MaxPool2d(2), nn.Conv2d(1, 1, (3, 1), dilation=2),
        nn.ConvTranspose2d(1, 1, 4, 2, 1), nn.AvgPool2d(3, 1),
    )  # fmt: skip
    for parameter in net.parameters():
        parameter.data.fill_(1.0)
    x = torch.ones(1, 1, 65, 65, requires_grad=True)
    graph = trace(net, tuple(x.shape))
    field = receptive_fields(graph)[graph.outputs[0].value]
    # average pooling in place of max pooling, to see every pixel that could be the largest
    net[1] = nn.AvgPool2d(2)
    y = net(x)
    widest = [0, 0]
    for row in range(4, 8):
        for column in range(4, 8):
            (gradient,) = torch.autograd.grad(y[0, 0, row, column], x, retain_graph=True)
            seen = gradient[0, 0].nonzero()
            extent = (seen.max(0).values - seen.min(0).values + 1).tolist()
            widest = [max(a, b) for a, b in zip(widest, extent, strict=True)]
    assert field.size == tuple(widest)
    assert field.step == (2.0, 2.0)


# -------------------------------------------------------------------------------------- output


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return torch.fft.fft2(self.conv(x)).real


def test_what_cannot_be_counted_is_listed_and_never_zero():
    cost = dw.cost(Unknown(), (1, 3, 4, 4))
    assert cost.not_counted[0].operator == "aten.fft_fft2.default"
    assert all(layer.macs is None for layer in cost.not_counted)
    assert cost.macs == 12 * 16
    assert "NOT COUNTED, so the total is too low: aten.fft_fft2.default" in cost.table()
    assert json.loads(cost.to_json())["not_counted"] == [layer.name for layer in cost.not_counted]


def test_table_json_and_csv_say_the_same():
    cost = dw.cost(on_meta(construct, "mobilenet_v2"), (1, 3, 224, 224))
    table = cost.table()
    assert "multiply-adds (MACs) of convolutions and linear layers" in table
    assert "FLOPs = 2 x MACs" in table
    assert "300,774,272" in table
    data = json.loads(cost.to_json())
    assert (data["macs"], data["flops"]) == (300_774_272, 601_548_544)
    assert data["params"] == 3_504_872
    assert "FLOPs = 2 x" in data["convention"]
    rows = list(csv.DictReader(io.StringIO(cost.to_csv())))
    assert len(rows) == len(data["layers"]) == len(cost.layers)
    assert sum(int(row["macs"]) for row in rows) == cost.macs
    assert sum(int(row["params"]) for row in rows) == cost.params
    assert rows[0]["input_shape"] == "1x3x224x224"


def test_tables_hide_only_layers_without_macs():
    cost = dw.cost(on_meta(construct, "mobilenet_v1"), (1, 3, 64, 64))
    assert "blocks.0.depthwise.norm" not in cost.table()
    assert "blocks.0.depthwise.norm" in cost.table(all_layers=True)
    assert "not shown: 56 operators without MACs, with 21,888 parameters" in cost.table()
