"""Lint: every rule on a network that breaks it, and on its neighbours that do not."""

import contextlib
import io
import json
import re
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from depthwise.analysis.finding import FLOOD, Finding, lint_table, merge_equal
from depthwise.analysis.lint import RULES, lint, lint_graph
from depthwise.analysis.overlap import as_text, interior, overlap_counts
from depthwise.analysis.tables import render
from depthwise.families import construct
from depthwise.graph import trace
from depthwise.layers import (
    Conv2dSame,
    DeformConv,
    GhostModule,
    InvertedResidual,
    ResizeConv,
    SeparableConv,
    SqueezeExcite,
    conv2d,
    conv_norm_act,
    conv_transpose2d,
    depthwise_conv2d,
    pointwise_conv2d,
)

IMAGE = (1, 3, 224, 224)


def found(net, *shapes, rule, **options):
    """Return the findings of one rule."""
    return [f for f in lint(net, *shapes, **options) if f.rule == rule]


def rules(net, *shapes):
    return {f.rule for f in lint(net, *shapes)}


def on_meta(build, *arguments, **options):
    with torch.device("meta"):
        return build(*arguments, **options)


# ---------------------------------------------------------------- checkerboard


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (4, 3), (5, 3)])
def test_checkerboard(kernel, stride):
    (finding,) = found(conv_transpose2d(8, 8, kernel, stride), (1, 8, 5, 5), rule="checkerboard")
    counts = overlap_counts(kernel, stride)
    assert f"sum {', '.join(map(str, counts))} products" in finding.what
    assert as_text(interior(kernel, stride)) in finding.what
    assert f"such as {2 * stride}x{2 * stride}" in finding.advice
    assert finding.severity == "warning"


@pytest.mark.parametrize(
    "net",
    [conv_transpose2d(8, 8, 4, 2), conv_transpose2d(8, 8, 2, 2), conv_transpose2d(8, 8, 6, 3),
    ResizeConv(8, 8),
     nn.ConvTranspose2d(8, 8, 3), nn.ConvTranspose2d(8, 8, (3, 4), (1, 2))],
)  # fmt: skip
def test_no_checkerboard(net):
    assert not found(net, (1, 8, 5, 5), rule="checkerboard")


def test_checkerboard_by_axis_and_by_dilation():
    one_axis = nn.ConvTranspose2d(8, 8, (4, 3), 2)
    (finding,) = found(one_axis, (1, 8, 5, 5), rule="checkerboard")
    assert "sum 2, 2 and 1, 2 products" in finding.what
    # all four taps fall on every other pixel
    spread = nn.ConvTranspose2d(8, 8, 4, 2, dilation=2)
    (finding,) = found(spread, (1, 8, 5, 5), rule="checkerboard")
    assert "dilation 2" in finding.what
    assert "sum 0, 4 products" in finding.what
    # a single pixel overlaps with nothing: the first layer of many generators
    assert not found(nn.ConvTranspose2d(8, 8, 3, 2), (1, 8, 1, 1), rule="checkerboard")


# ---------------------------------------------------------------- receptive field


def pooled(*layers):
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


def test_receptive_field():
    net = pooled(conv2d(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv2d(8, 8), nn.ReLU())
    (finding,) = found(net, (1, 3, 32, 32), rule="receptive-field")
    assert finding.layer == "3"
    assert finding.severity == "warning"
    assert "sees 5x5 pixels of an input of 32x32" in finding.what
    assert not found(net, (1, 3, 5, 5), rule="receptive-field")
    (finding,) = found(net, (1, 3, 5, 6), rule="receptive-field")
    assert finding.severity == "note"


def test_receptive_field_of_a_network_whose_last_plane_is_one_pixel():
    net = nn.Sequential(conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 1, 4), nn.Flatten(), nn.Linear(8, 2))
    (finding,) = found(net, (1, 3, 8, 8), rule="receptive-field")
    assert "sees 3x3 pixels of an input of 8x8" in finding.what


def test_receptive_field_is_asked_of_classifiers_only_and_objects_of_all():
    dense = nn.Sequential(conv2d(3, 8), conv2d(8, 8))
    assert not found(dense, (1, 3, 32, 32), rule="receptive-field")
    (finding,) = found(dense, (1, 3, 32, 32), rule="object-size", object_size=6)
    assert "sees 5x5 pixels, the object has 6x6" in finding.what
    assert not found(dense, (1, 3, 32, 32), rule="object-size", object_size=5)
    gated = pooled(conv2d(3, 8), SqueezeExcite(8, 8))  # the gate's view of all is no shape
    (finding,) = found(gated, (1, 3, 32, 32), rule="object-size", object_size=4)
    assert finding.layer == "0"
    with pytest.raises(ValueError, match="object_size=0: give the object's size in pixels"):
        lint(dense, (1, 3, 32, 32), object_size=0)


class Attention(nn.Module):
    """Every pixel looks at every other one."""

    def forward(self, x):
        pixels = x.flatten(2)
        return (pixels @ (pixels.transpose(1, 2) @ pixels).softmax(-1)).reshape(x.shape)


def test_receptive_field_of_attention_is_not_bounded_by_its_layers():
    net = on_meta(timm.create_model, "mobilevit_xxs")
    assert not found(net, (1, 3, 256, 256), rule="receptive-field")
    net = on_meta(timm.create_model, "mixer_s32_224")
    assert not found(net, IMAGE, rule="object-size", object_size=100)
    assert found(pooled(conv2d(3, 8)), (1, 3, 32, 32), rule="receptive-field")
    assert not found(pooled(conv2d(3, 8), Attention()), (1, 3, 32, 32), rule="receptive-field")


# ---------------------------------------------------------------- channels and groups


def test_channels():
    net = nn.Sequential(conv2d(3, 12), nn.ReLU(), conv2d(12, 16), nn.ReLU(), conv2d(16, 5))
    (finding,) = found(net, (1, 3, 8, 8), rule="channels")
    assert finding.layer == "0"
    assert "12 output channels: 4 of 16 vector lanes stay empty (25 %)" in finding.what
    assert finding.severity == "note"


def test_channels_of_scores_gates_and_offsets_do_not_count():
    net = nn.Sequential(conv2d(3, 8), SqueezeExcite(8, 2), DeformConv(8, 8, modulated=True),
                        conv2d(8, 21), nn.Upsample(scale_factor=2, mode="bilinear"))  # fmt: skip
    assert not found(net, (1, 3, 8, 8), rule="channels")
    assert not found(nn.Sequential(conv2d(3, 1), conv2d(1, 8)), (1, 3, 8, 8), rule="channels")
    features = conv_norm_act(3, 12)  # after a norm it is a feature map, though it is the output
    assert found(features, (1, 3, 8, 8), rule="channels")


def test_what_a_rule_finds_again_and_again_is_said_once():
    twelve = [conv2d(12, 12) for _ in range(FLOOD)]
    net = nn.Sequential(conv2d(8, 12), *twelve, conv2d(12, 20), conv2d(20, 8))
    findings = found(net, (1, 8, 8, 8), rule="channels")
    assert [(f.layer, f.also) for f in findings] == [("0", ("1", "2", "3")), ("4", ())]
    few = nn.Sequential(conv2d(8, 12), *twelve[1:], conv2d(12, 8))
    findings = found(few, (1, 8, 8, 8), rule="channels")
    assert [(f.layer, f.also) for f in findings] == [("0", ()), ("1", ()), ("2", ())]


@pytest.mark.parametrize(
    ("channels", "groups", "says"),
    [(24, 8, "8 groups of 3 input and 3 output channels: 1 of 4 vector lanes"),
     (16, 8, "8 groups of 2 input and 2 output channels: 2 of 4 vector lanes"),
     (32, 8, None), (64, 8, None), (16, 16, None), (16, 1, None)],
)  # fmt: skip
def test_groups(channels, groups, says):
    findings = found(conv2d(channels, channels, groups=groups), (1, channels, 8, 8), rule="groups")
    assert [says in f.what for f in findings] == ([True] if says else [])


def test_groups_that_do_not_divide_cannot_be_built():
    with pytest.raises(ValueError, match=r"in_channels=12 with groups=8: must be a positive multi"):
        conv2d(12, 16, groups=8)


# ---------------------------------------------------------------- layers that undo one another


def test_gate_on_one_pixel():
    net = nn.Sequential(conv2d(3, 8, 3, 2), SqueezeExcite(8, 4))
    (finding,) = found(net, (1, 3, 2, 2), rule="gate-1x1")
    assert finding.layer == "1"
    assert "8 channels of 1x1 pixel, with 76 parameters" in finding.what
    assert not found(net, (1, 3, 4, 4), rule="gate-1x1")
    assert not found(pooled(conv2d(3, 8, 3, 2)), (1, 3, 2, 2), rule="gate-1x1")
    # multiplies, but not what was pooled
    tail = nn.Sequential(
        conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), pointwise_conv2d(8, 8), Scale()
    )
    assert not found(tail, (1, 3, 2, 2), rule="gate-1x1")


class Scale(nn.Module):
    """One learned factor a channel."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x):
        return x * self.factor


def test_gates_of_mobilenet_v3_on_tiny_images():
    net = on_meta(construct, "mobilenet_v3_large")
    layers = [f.layer for f in found(net, (1, 3, 32, 32), rule="gate-1x1")]
    assert layers == ["blocks.12.gate", "blocks.13.gate", "blocks.14.gate"]
    net = on_meta(timm.create_model, "mobilenetv3_large_100")
    assert len(found(net, (1, 3, 32, 32), rule="gate-1x1")) == 3
    net = on_meta(torchvision.models.mobilenet_v3_large)
    assert len(found(net, (1, 3, 32, 32), rule="gate-1x1")) == 3


@pytest.mark.parametrize(
    ("norm", "bias", "wasted"),
    [(nn.BatchNorm2d(8), True, True), (nn.InstanceNorm2d(8), True, True),
     (nn.GroupNorm(8, 8), True, True), (nn.GroupNorm(2, 8), True, False),
     (nn.GroupNorm(1, 8), True, False), (nn.BatchNorm2d(8), False, False),
     (nn.Identity(), True, False), (nn.ReLU(), True, False)],
)  # fmt: skip
def test_bias_before_norm(norm, bias, wasted):
    findings = found(nn.Sequential(conv2d(3, 8, bias=bias), norm), (1, 3, 8, 8),
                     rule="bias-before-norm")  # fmt: skip
    assert [(f.layer, f.what.split(" in ")[0]) for f in findings] == [("0", "8 biases")] * wasted


class Branches(nn.Module):
    """Several readers of one value, each with a result of its own."""

    def __init__(self, trunk, *readers):
        super().__init__()
        self.trunk, self.readers = trunk, nn.ModuleList(readers)

    def forward(self, x):
        y = self.trunk(x)
        return tuple(reader(y) for reader in self.readers)


def test_a_bias_that_something_else_reads_is_not_wasted():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = conv2d(3, 8, bias=True), nn.BatchNorm2d(8)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + y

    assert not found(Both(), (1, 3, 8, 8), rule="bias-before-norm")
    returned = Branches(conv2d(3, 8, bias=True), nn.BatchNorm2d(8), nn.Identity())
    assert not found(returned, (1, 3, 8, 8), rule="bias-before-norm")
    # a deformable convolution's bias is a constant zero
    deformable = nn.Sequential(DeformConv(3, 8), nn.BatchNorm2d(8))
    assert not found(deformable, (1, 3, 8, 8), rule="bias-before-norm")
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8))
    assert len(found(linear, (1, 3, 8, 8), rule="bias-before-norm")) == 1


def bottleneck(in_channels, expanded, out_channels, act):
    """Return an inverted residual with `act` after its projection."""
    net = InvertedResidual(in_channels, expanded, out_channels)
    net.project.append(act)
    return net


@pytest.mark.parametrize(
    ("act", "name"),
    [(nn.ReLU(), "relu"), (nn.ReLU6(), "relu6"), (nn.Hardswish(), "hard_swish"),
     (nn.Hardtanh(), "clamp")],
)  # fmt: skip
@pytest.mark.parametrize("out_channels", [16, 24])
def test_activation_behind_a_linear_bottleneck(act, name, out_channels):
    net = bottleneck(16, 96, out_channels, act)
    (finding,) = found(net, (1, 16, 8, 8), rule="bottleneck-activation")
    assert finding.layer == "project.conv"
    assert f"96 -> {out_channels} channels, then {name}," in finding.what
    assert finding.severity == "warning"


def test_activation_behind_a_linear_bottleneck_with_a_gate():
    net = InvertedResidual(16, 96, 24, gate=SqueezeExcite(96, 24))
    net.project.append(nn.ReLU())
    assert len(found(net, (1, 16, 8, 8), rule="bottleneck-activation")) == 1


class ActivatedShortcut(nn.Module):
    """relu(x + bottleneck(x)), without an expansion in front of the depthwise convolution."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = conv_norm_act(16, 64, 3), conv_norm_act(64, 16, act=None)
        self.depthwise = conv_norm_act(64, 64, 3, groups=64)

    def forward(self, x):
        return F.relu(x + self.leave(self.depthwise(self.enter(x))))


def test_activation_behind_the_shortcut_of_a_bottleneck():
    (finding,) = found(ActivatedShortcut(), (1, 16, 8, 8), rule="bottleneck-activation")
    assert finding.layer == "leave.conv"
    assert "after the shortcut" in finding.what


@pytest.mark.parametrize(
    "net",
    [
        InvertedResidual(16, 96, 16), bottleneck(16, 96, 24, nn.Sigmoid()),
        nn.Sequential(InvertedResidual(16, 96, 16, gate=SqueezeExcite(96, 24)),
                      InvertedResidual(16, 96, 24)),
        SeparableConv(16, 32), SeparableConv(16, 8), bottleneck(16, 32, 24, nn.ReLU()),
        nn.Sequential(pointwise_conv2d(16, 64), nn.ReLU(), conv2d(64, 64), nn.ReLU(),
                      pointwise_conv2d(64, 16), nn.ReLU()),
        nn.Sequential(pointwise_conv2d(16, 64), nn.ReLU(), depthwise_conv2d(64),
        pointwise_conv2d(64, 64), nn.ReLU()),
        nn.Sequential(pointwise_conv2d(16, 16), depthwise_conv2d(16), pointwise_conv2d(16, 8),
        nn.ReLU()),
    ],
)  # fmt: skip
def test_no_activation_behind_a_linear_bottleneck(net):
    assert not found(net, (1, 16, 8, 8), rule="bottleneck-activation")


# ---------------------------------------------------------------- asymmetric padding


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (Conv2dSame(3, 8, 3, 2), "0 above, 1 below, 0 left, 1 right"),
        (Conv2dSame(3, 8, 3, 1), None),
        (nn.Conv2d(3, 8, 4, padding="same"), "1 above, 2 below, 1 left, 2 right"),
        (nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2)), "0 above, 1 below"),
        (nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3)), None),
        (nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.ReLU()), None),
    ],
)
def test_asymmetric_padding(net, says):
    findings = found(net, (1, 3, 32, 32), rule="asymmetric-padding")
    assert [says in f.what for f in findings] == ([True] if says else [])


def test_asymmetric_padding_of_a_tensorflow_checkpoint():
    net = on_meta(timm.create_model, "tf_mobilenetv3_large_100")
    findings = found(net, IMAGE, rule="asymmetric-padding")
    strided = {name for name, m in net.named_modules()
               if isinstance(m, nn.Conv2d) and m.stride == (2, 2)}  # fmt: skip
    assert {name for f in findings for name in (f.layer, *f.also)} == strided
    assert not lint(on_meta(timm.create_model, "mobilenetv3_large_100"), IMAGE)


# ---------------------------------------------------------------- whole networks

CLEAN = ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "resnet50",
         "xception", "googlenet"]  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
def test_good_networks_are_left_alone(name):
    assert lint(on_meta(construct, name), IMAGE) == []


def test_good_networks_of_others_are_left_alone():
    for name in ("mobilenetv2_100", "resnet50", "efficientnet_b0", "convnext_atto"):
        assert lint(on_meta(timm.create_model, name), IMAGE) == [], name


@pytest.mark.parametrize(
    "name",
    ["deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large",
     "fcn_resnet50"],
)  # fmt: skip
def test_dense_prediction_whose_holes_are_filled(name):
    net = on_meta(torchvision.models.get_model, name, weights=None, weights_backbone=None)
    assert not found(net, (1, 3, 256, 256), rule="gridding")


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_our_dilation_leaves_no_holes(name):
    assert not found(on_meta(construct, name, output_stride=8), IMAGE, rule="gridding")


def test_ghost_modules_pay_in_vector_lanes():
    assert rules(on_meta(construct, "ghostnet"), IMAGE) == {"channels"}
    net = nn.Sequential(GhostModule(8, 24), GhostModule(24, 16))
    assert [f.layer for f in found(net, (1, 8, 8, 8), rule="channels")] == \
        ["0.primary.conv", "0.cheap.conv"]  # fmt: skip


def generator(kernel):
    """Return DCGAN's generator with the stride-2 kernels of `kernel` pixels."""
    layers, channels = [nn.ConvTranspose2d(100, 64, 4, bias=False)], (64, 32, 16, 8)
    for before, after in zip(channels, (*channels[1:], 3), strict=True):
        layers += [nn.BatchNorm2d(before), nn.ReLU()]
        layers += [conv_transpose2d(before, after, kernel, 2, bias=False)]
    return nn.Sequential(*layers, nn.Tanh())


def test_generators():
    assert lint(generator(4), (1, 100, 1, 1)) == []
    (finding,) = lint(generator(3), (1, 100, 1, 1))
    assert finding.rule == "checkerboard"
    assert (finding.layer, finding.also) == ("3", ("6", "9", "12"))


# ---------------------------------------------------------------- findings


def test_rules_are_named_apart_and_read_a_graph():
    graph = trace(generator(3), (1, 100, 1, 1))
    assert lint_graph(graph) == lint(generator(3), (1, 100, 1, 1))
    assert len({rule.__name__ for rule in RULES}) == len(RULES)


def test_an_exported_program_is_read_as_it_is():
    net = nn.Sequential(conv2d(3, 12), nn.BatchNorm2d(12)).eval()
    program = torch.export.export(net, (torch.zeros(1, 3, 8, 8),))
    assert [f.rule for f in lint(program)] == ["channels"]


def test_the_network_is_not_changed():
    net = nn.Sequential(conv2d(3, 12, bias=True), nn.BatchNorm2d(12)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    lint(net, (2, 3, 8, 8))
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def finding(severity, layer="a", rule="r"):
    return Finding(rule, layer, "what", "why", "advice", severity)


def test_warnings_come_first():
    assert [f.severity for f in merge_equal([finding("note"), finding("warning", rule="s")])] == [
        "warning", "note"
    ]  # fmt: skip


def test_findings_as_json():
    (one,) = lint(nn.Sequential(conv2d(3, 12), conv2d(12, 8)), (1, 3, 8, 8))
    fields = json.loads(json.dumps(one.to_dict()))
    assert fields["rule"] == "channels"
    assert list(fields) == ["rule", "layer", "what", "why", "advice", "severity", "also"]


def test_the_table_says_everything_in_100_columns():
    net = nn.Sequential(generator(3), conv2d(3, 12, bias=True), nn.BatchNorm2d(12), nn.ReLU())
    findings = lint(net, (1, 100, 1, 1))
    text = render(lint_table(findings), 100)
    assert max(map(len, text.splitlines())) <= 100
    words = " ".join(text.split())
    for each in findings:
        assert each.layer in text
        for said in (each.what, each.why, each.advice):
            assert all(word in words for word in said.split())
    assert "4 2 4 2" in text
    assert text.splitlines()[0] == "warning: checkerboard"
    assert text.splitlines()[-1] == f"1 warning, {len(findings) - 1} notes"
    assert len(findings) > 2
    assert render(lint_table([])) == "nothing found"


def test_the_page_shows_what_lint_prints():
    page = (Path(__file__).parents[1] / "docs" / "lint.md").read_text()
    names, printed, shown = {}, "", 0
    for language, block in re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL):
        if language == "python":
            text = io.StringIO()
            with contextlib.redirect_stdout(text):
                exec(block, names)
            printed = text.getvalue()
        else:
            assert printed.endswith(block)
            shown += 1
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert shown == len(headings) == len(RULES)
