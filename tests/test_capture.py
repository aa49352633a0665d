"""Capture against eager PyTorch: every operator, every layer, every network."""

import logging
import typing

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import deform_conv2d

from depthwise import layers
from depthwise.families import construct, networks
from depthwise.graph import Unsupported, capture, interpret, ops, trace


class Function(nn.Module):
    """A function of tensors as a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def agree(net: nn.Module, *shapes: tuple[int, ...], tolerance: float = 1e-5):
    """Assert that the captured graph, interpreted, equals eager PyTorch; return the graph."""
    inputs = [torch.randn(shape, generator=torch.Generator().manual_seed(7)) for shape in shapes]
    graph = capture(net, *shapes)
    net.eval()
    with torch.no_grad():
        expected = net(*(x.clone() for x in inputs))
    values = interpret(graph, *(x.numpy() for x in inputs))
    if isinstance(expected, dict):
        assert [o.name for o in graph.outputs] == list(expected)
        expected = list(expected.values())
    expected = [expected] if isinstance(expected, torch.Tensor) else expected
    assert len(graph.outputs) == len(expected)
    for output, y in zip(graph.outputs, expected, strict=True):
        found, wanted = values[output.value], y.numpy()
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()
    return graph


def scrambled(norm: nn.Module) -> nn.Module:
    """Give a normalisation statistics and an affine step that show where they are misused."""
    for tensor in [*norm.parameters(), *norm.buffers()]:
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5)
    return norm


def conv(*arguments, **named):
    return nn.Conv2d(*arguments, **named)


X = (2, 6, 9, 11)

# name -> (network, input shapes): together they use every operator of the graph
CASES = {
    "conv": (conv(6, 4, 3), [X]),
    "conv strided, dilated, padded": (conv(6, 4, (3, 5), (2, 1), (1, 4), (1, 2)), [X]),
    "conv grouped": (conv(6, 9, 3, groups=3), [X]),
    "conv depthwise": (conv(6, 12, 3, groups=6, padding=1, bias=False), [X]),
    "conv same": (conv(6, 4, (4, 3), padding="same", dilation=(1, 2)), [X]),
    "conv padded unevenly": (nn.Sequential(nn.ZeroPad2d((1, 3, 0, 2)), conv(6, 4, 3, 2)), [X]),
    "depthwise padded unevenly": (
        nn.Sequential(nn.ZeroPad2d((1, 3, 0, 2)), conv(6, 6, 5, groups=6)), [X],
    ),
    "conv valid": (conv(6, 4, 2, padding="valid"), [X]),
    "conv reflect": (conv(6, 4, 3, padding=2, padding_mode="reflect"), [X]),
    "conv circular": (conv(6, 4, 3, padding=2, padding_mode="circular"), [X]),
    "conv replicate": (conv(6, 4, 3, padding=2, padding_mode="replicate"), [X]),
    "conv1d": (nn.Conv1d(6, 4, 3, 2, 1), [(2, 6, 9)]),
    "transposed k3 s2": (nn.ConvTranspose2d(6, 4, 3, 2), [X]),
    "transposed k4 s2 p1": (nn.ConvTranspose2d(6, 4, 4, 2, 1), [X]),
    "transposed output_padding": (nn.ConvTranspose2d(6, 4, 3, 3, 0, 2), [X]),
    "transposed grouped, dilated": (nn.ConvTranspose2d(6, 4, 3, 2, 1, 1, 2, dilation=2), [X]),
    "linear": (nn.Linear(11, 5), [X]),
    "matmul": (Function(lambda a, b: a @ b), [(2, 3, 4), (2, 4, 5)]),
    "batch norm": (scrambled(nn.BatchNorm2d(6, 1e-3)), [X]),
    "batch norm without affine": (nn.BatchNorm2d(6, affine=False), [X]),
    "batch norm 1d": (scrambled(nn.BatchNorm1d(6)), [(2, 6)]),
    "group norm": (scrambled(nn.GroupNorm(3, 6)), [X]),
    "group norm without affine": (nn.GroupNorm(3, 6, affine=False), [X]),
    "instance norm": (scrambled(nn.InstanceNorm2d(6, affine=True)), [X]),
    "instance norm without affine": (nn.InstanceNorm2d(6), [X]),
    "layer norm": (scrambled(nn.LayerNorm((9, 11))), [X]),
    "local response norm": (nn.LocalResponseNorm(3, alpha=0.5), [X]),
    "max pool": (nn.MaxPool2d(3, 2, 1), [X]),
    "max pool dilated, ceil": (nn.MaxPool2d((2, 3), (2, 3), (1, 1), (2, 1), ceil_mode=True), [X]),
    "avg pool": (nn.AvgPool2d(3, 2, 1), [X]),
    "avg pool ceil": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), [X]),
    "avg pool ceil, inside": (nn.AvgPool2d(3, 2, 1, True, count_include_pad=False), [X]),
    "avg pool divisor": (nn.AvgPool2d(2, divisor_override=3), [X]),
    "adaptive avg pool": (nn.AdaptiveAvgPool2d((2, 3)), [X]),
    "adaptive avg pool enlarges": (nn.AdaptiveAvgPool2d((12, 7)), [X]),
    "adaptive max pool": (nn.AdaptiveMaxPool2d((2, 3)), [X]),
    "mean": (Function(lambda x: x.mean((2, 3))), [X]),
    "mean of all": (Function(lambda x: x.mean()), [X]),
    "sum": (Function(lambda x: x.sum(1, keepdim=True)), [X]),
    "max and min": (Function(lambda x: (x.amax((2, 3)), x.amin(1))), [X]),
    "activations": (
        Function(
            lambda x: (
                F.relu(x), F.relu6(4 * x), F.leaky_relu(x, 0.2), F.hardswish(3 * x),
                F.hardsigmoid(3 * x), F.sigmoid(x), F.silu(x), F.gelu(x),
                F.gelu(x, approximate="tanh"), F.tanh(x), F.elu(x, 0.7), x.clamp(-0.5, 0.7),
                F.softplus(x), F.mish(x), F.hardtanh(x), -x, x.abs(), x.exp(), x.clamp(min=0.1),
                x.clamp(max=0.1),
            )
        ),
        [X],
    ),
    "roots and powers": (
        Function(lambda x: (x.abs().sqrt(), (x * x + 1).log(), (x * x + 1).rsqrt(), x**3)), [X],
    ),
    "prelu": (nn.PReLU(6, 0.3), [X]),
    "arithmetic": (
        Function(lambda x, y: (x + y, x - y, x * y, x / (y * y + 1), 2 * x + 1, 1 - x,
                               torch.maximum(x, y), torch.minimum(x, y), torch.add(x, y, alpha=3))),
        [X, (2, 6, 1, 1)],
    ),
    "products and quotients added": (
        Function(lambda x, y: (torch.addcmul(x, y, y, value=0.5), x.addcmul(x, y),
                               torch.addcdiv(x, y, y * y + 1, value=2), (x * x + 1).reciprocal())),
        [X, (2, 6, 1, 1)],
    ),
    "variance": (
        Function(lambda x: (x.var(), x.var(1), x.var((2, 3), keepdim=True, unbiased=False),
                            torch.var(x, 3, correction=2), x.std(1, keepdim=True), x.std(),
                            *torch.var_mean(x, (2, 3)))),
        [X],
    ),
    "Euclidean norm": (
        Function(lambda x: (torch.linalg.vector_norm(x), x.norm(dim=(2, 3), keepdim=True),
                            F.normalize(x, dim=1))),
        [X],
    ),
    "log softmax": (Function(lambda x: F.log_softmax(100 * x, 1)), [X]),
    "gates": (Function(lambda x: (F.glu(x, 1), F.selu(x))), [X]),
    "rolled and repeated": (
        Function(lambda x: (x.roll((1, -2), (2, 3)), x.roll(3, 1), x.repeat(1, 2, 1, 3),
                            x.repeat(2, 1, 1, 1, 1), x.swapaxes(1, 3))),
        [X],
    ),
    "softmax": (nn.Softmax(1), [X]),
    "concat": (Function(lambda x, y: torch.cat((x, y), 1)), [X, X]),
    "stack": (Function(lambda x, y: torch.stack((x, y), 2)), [X, X]),
    "slices": (
        Function(lambda x: (x[:, 1:5:2], x[..., -4:], x[:, 2], *x.split(4, 1), *x.chunk(4, 3),
                            *x.split([1, 5], 1), *x.unbind(2)[:2], x.narrow(1, 2, 3))),
        [X],
    ),
    "pad": (
        Function(lambda x: (F.pad(x, (1, 2, 3, 0)), F.pad(x, (-1, 2, 0, -3), value=2.0),
                            F.pad(x, (1, 2, 3, 0), mode="reflect"))),
        [X],
    ),
    "resize nearest": (
        Function(lambda x: (F.interpolate(x, scale_factor=2.0), F.interpolate(x, (5, 17)),
                            F.interpolate(x, scale_factor=1.7))),
        [X],
    ),
    "resize bilinear": (
        Function(lambda x: (
            F.interpolate(x, scale_factor=2.0, mode="bilinear"),
            F.interpolate(x, (5, 17), mode="bilinear"),
            F.interpolate(x, (5, 17), mode="bilinear", align_corners=True),
            F.interpolate(x, scale_factor=1.7, mode="bilinear"),
        )),
        [X],
    ),
    "shapes": (
        Function(lambda x: (x.flatten(1), x.view(2, 3, 2, -1), x.permute(0, 2, 3, 1),
                            x.transpose(1, 3), x.unsqueeze(1).squeeze(1),
                            x[:, :1].expand(2, 4, 9, 11), x.unflatten(1, (2, -1)))),
        [X],
    ),
    "shuffles": (nn.Sequential(nn.ChannelShuffle(3), conv(6, 8, 1), nn.PixelShuffle(2)), [X]),
    "unshuffle": (nn.PixelUnshuffle(3), [(2, 6, 9, 12)]),
    "dropout": (nn.Dropout(0.5), [X]),
    "deformable": (
        Function(lambda x, w, o: deform_conv2d(x, o, w, padding=1)),
        [X, (4, 6, 3, 3), (2, 18, 9, 11)],
    ),
    "deformable, modulated, grouped": (
        Function(lambda x, w, o, m: deform_conv2d(x, 3 * o, w, None, 2, (2, 1), (2, 1), m)),
        [X, (4, 3, 3, 3), (2, 36, 5, 6), (2, 18, 5, 6)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_operators_equal_pytorch(name):
    net, shapes = CASES[name]
    agree(net, *shapes)


def test_every_operator_of_the_graph_is_among_the_cases():
    used = set()
    for net, shapes in CASES.values():
        used |= {type(node.op) for node in capture(net, *shapes)}
    # pooling of regions is a layer, tested below; an opaque operator has no meaning to compare
    assert used | {ops.DeformRoIPool, ops.Opaque} == set(typing.get_args(ops.Op))


LAYERS = {
    "Conv2dSame": (layers.Conv2dSame(6, 4, 3, 2), [X]),
    "standard": (layers.standard(6, 4, 5, 2), [X]),
    "dilated": (layers.standard(6, 4, 3, dilation=2), [X]),
    "depthwise": (layers.depthwise(6, 3, 2, multiplier=2), [X]),
    "pointwise": (layers.pointwise(6, 4), [X]),
    "conv_norm_act": (layers.conv_norm_act(6, 4, 3), [X]),
    "SeparableConv": (layers.SeparableConv(6, 4), [X]),
    "PlainSeparableConv": (layers.PlainSeparableConv(6, 4), [X]),
    "ResizeConv": (layers.ResizeConv(6, 4), [X]),
    "transposed": (layers.transposed(6, 4), [X]),
    "SqueezeExcite": (layers.SqueezeExcite(6, 3), [X]),
    "SqueezeExcite hard": (layers.SqueezeExcite(6, 3, gate=layers.h_sigmoid), [X]),
    "SqueezeExcite clamped": (layers.SqueezeExcite(6, 3, gate=layers.Clamp), [X]),
    "GhostModule": (layers.GhostModule(6, 7), [X]),
    "GhostBottleneck": (layers.GhostBottleneck(6, 12, 8, stride=2), [X]),
    "InvertedResidual": (layers.InvertedResidual(6, 12, 6), [X]),
    "DeformConv": (layers.DeformConv(6, 4), [X]),
    "DeformConv modulated": (layers.DeformConv(6, 4, modulated=True), [X]),
    **{f"norm {kind}": (layers.norm(kind, groups=3)(6), [X])
       for kind in ("batch", "layer", "instance", "group")},
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_pytorch(name):
    net, shapes = LAYERS[name]
    for parameter in net.parameters():  # predictors of offsets start at zero
        parameter.data.normal_(0, 0.3)
    agree(net, *shapes)


@pytest.mark.parametrize("name", networks())
def test_networks_equal_pytorch(name):
    sizes = {"alexnet": 99, "inception_v3": 75, "inception_v4": 75, "inception_resnet_v2": 75}
    size = sizes.get(name, 64)
    agree(construct(name), (1, 3, size, size))


def test_regions_equal_pytorch():
    net = layers.DeformRoIPool(6, 3).eval()
    for parameter in net.parameters():
        parameter.data.normal_(0, 0.5)
    x = torch.randn(X)
    boxes = torch.tensor([[0, 1.0, 2.0, 7.0, 8.0], [1, 0.0, 0.0, 10.5, 4.0], [0, -3.0, 1, 12, 20]])
    graph = capture(net, X, tuple(boxes.shape))
    values = interpret(graph, x.numpy(), boxes.numpy())
    with torch.no_grad():
        expected = net(x, boxes).numpy()
    assert np.abs(values[graph.outputs[0].value] - expected).max() <= 1e-5 * np.abs(expected).max()


# --------------------------------------------------------------------- what capture keeps intact


def test_a_training_network_is_captured_as_in_evaluation_and_left_as_it_was():
    net = construct("mobilenet_v2").train()
    net.blocks[3].eval()
    modes = [module.training for module in net.modules()]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    graph = capture(net, (1, 3, 32, 32))
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert any(isinstance(node.op, ops.BatchNorm) for node in graph)


def test_constants_share_the_networks_memory():
    net = nn.Conv2d(3, 4, 1)
    graph = capture(net, (1, 3, 5, 5))
    assert np.shares_memory(graph.constants["weight"].data, net.weight.detach().numpy())


def test_the_meta_device_gives_a_graph_without_data():
    with torch.device("meta"):
        net = construct("vgg16")
    graph = capture(net, (1, 3, 224, 224))
    assert all(constant.data is None for constant in graph.constants.values() if constant.trainable)
    with pytest.raises(Unsupported, match="has no data: the network was captured on the meta"):
        interpret(graph, np.zeros((1, 3, 224, 224), np.float32))


def test_paths_are_module_paths_and_constants_keys_of_the_state_dict():
    net = construct("mobilenet_v1")
    graph = capture(net, (1, 3, 32, 32))
    modules = dict(net.named_modules())
    assert all(node.path in modules for node in graph)
    assert set(graph.constants) <= set(net.state_dict())


def test_a_module_called_twice_keeps_its_path_and_its_weights():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Conv2d(6, 6, 1)

        def forward(self, x):
            return self.shared(self.shared(x))

    graph = agree(Twice(), X)
    assert [node.path for node in graph] == ["shared", "shared"]
    assert set(graph.constants) == {"shared.weight", "shared.bias"}


def test_numbers_that_differ_in_the_seventh_digit_are_two_constants():
    graph = agree(Function(lambda x: x * 1.2345678 + x / 1.2345699), X)
    numbers = sorted(float(c.data) for c in graph.constants.values())
    assert numbers == [float(np.float32(1.2345678)), float(np.float32(1.2345699))]


class Mode(nn.Module):
    """Runs a part without gradients, and one under autocast, enabled or not."""

    def __init__(self, autocast: bool):
        super().__init__()
        self.autocast, self.conv = autocast, conv(6, 6, 1)

    def forward(self, x):
        with torch.no_grad():
            x = x + 1
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            y, z = self.conv(x), x.relu_()
        return y * z


def test_modes_that_change_nothing_are_entered():
    graph = agree(Mode(autocast=False), X)
    assert [type(node.op).__name__ for node in graph] == [
        "Binary",
        "Conv2d",
        "Activation",
        "Binary",
    ]
    assert graph.nodes[1].path == "conv"


def test_autocast_is_refused():
    with pytest.raises(Unsupported, match=r"computes in torch.bfloat16 under autocast"):
        capture(Mode(autocast=True), X)


def test_in_place_operators_are_seen_by_later_readers():
    def overwrite(x):
        y = x * 2
        before = y + 1
        y.relu_()
        return before, y + x

    graph = agree(Function(overwrite), X)
    assert len(graph.nodes) == 4
    agree(nn.Sequential(conv(6, 4, 1), nn.ReLU(inplace=True), nn.Hardswish(inplace=True)), X)


def test_copies_keep_what_in_place_operators_overwrite():
    def overwrite(x):
        y = x * 2
        same, copied = y.contiguous(), y.clone()
        part = y.clone()[:, :2]
        part.mul_(3)
        y.relu_()
        return y + 1, same + 1, copied + 1, part

    agree(Function(overwrite), X)


def test_a_piece_may_be_overwritten_while_the_others_are_read():
    def overwrite(x):
        a, b, c = (x * 2).chunk(3, 1)
        a[:, :1].mul_(3)
        b.relu_()
        return b + c

    agree(Function(overwrite), X)


OVERWRITES = {
    "a piece, then a part of it": lambda y: ((p := y.chunk(2, 1)[0])[:, :2], p.relu_())[0],
    "a part, then the whole": lambda y: (y[:, :2].relu_(), y)[1],
    "a part of a part": lambda y: (y[:, 1].relu_(), y)[1],
    "another shape": lambda y: (y.view(2, 3, 2, 9, 11)[:, 0].mul_(3), y)[1],
    "other axes": lambda y: (y.permute(0, 2, 3, 1)[:, :3].mul_(3), y)[1],
    "the whole, then a part": lambda y: (y[:, :2], y.relu_())[0],
    "the whole, then its pieces": lambda y: (y.chunk(2, 1), y.relu_())[0],
    "the whole, then another shape": lambda y: (y.flatten(1), y.relu_())[0],
    "a piece, then the whole": lambda y: (y.chunk(2, 1)[0].relu_(), y)[1],
}


@pytest.mark.parametrize("name", OVERWRITES)
def test_writing_into_a_tensor_that_is_read_otherwise_is_refused(name):
    overwrite = OVERWRITES[name]
    with pytest.raises(Unsupported, match=r"writes into a tensor of which .* reads another view"):
        capture(Function(lambda x: overwrite(x * 2)), X)


def test_a_computed_weight_becomes_a_constant_with_its_source():
    class Standardized(nn.Conv2d):
        def forward(self, x):
            mean = self.weight.mean((1, 2, 3), keepdim=True)
            return F.conv2d(x, self.weight - mean, self.bias)

    graph = agree(Standardized(6, 4, 3), X)
    assert len(graph.nodes) == 1
    (computed,) = [c for c in graph.constants.values() if c.sources]
    assert computed.sources == ("weight",)


def test_several_outputs_keep_their_names():
    graph = agree(Function(lambda x: {"out": x + 1, "aux": x.flatten(1)}), X)
    assert [output.name for output in graph.outputs] == ["out", "aux"]


def test_an_exported_program_is_captured_with_its_own_shapes(tmp_path):
    net = conv(6, 4, 3).eval()
    torch.export.save(torch.export.export(net, (torch.empty(X),)), tmp_path / "net.pt2")
    program = torch.export.load(tmp_path / "net.pt2")
    graph = capture(program)
    x = np.random.default_rng(0).standard_normal(X, np.float32)
    expected = net(torch.from_numpy(x)).detach().numpy()
    found = interpret(graph, x)[graph.outputs[0].value]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    with pytest.raises(ValueError, match="this program was exported for inputs of"):
        capture(program, (1, 6, 5, 5))


def test_a_decomposed_program_is_captured():
    net = nn.Sequential(
        conv(6, 4, 3, 2, 1), scrambled(nn.BatchNorm2d(4)), nn.Hardswish(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    ).eval()  # fmt: skip
    program = torch.export.export(net, (torch.empty(X),)).run_decompositions()
    x = torch.randn(X)
    graph = capture(program)
    found = interpret(graph, x.numpy())[graph.outputs[0].value]
    with torch.no_grad():
        expected = net(x).numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


# ------------------------------------------------------------------------------------ refusals


class Spectral(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Function(lambda x: torch.fft.fft2(x).real)
        self.conv = conv(6, 4, 1)

    def forward(self, x):
        return self.conv(self.inner(x))


def test_an_unknown_operator_is_named_with_its_module():
    with pytest.raises(Unsupported) as error:
        capture(Spectral(), X)
    message = str(error.value)
    assert message.startswith("operator aten.fft_fft2.default in module 'inner' is not supported: ")
    assert "convolutions (plain, transposed, deformable)" in message


def test_trace_keeps_unknown_operators():
    graph = trace(Spectral(), X)
    assert [type(node.op).__name__ for node in graph] == ["Opaque", "Opaque", "Conv2d"]


@pytest.mark.parametrize(
    ("net", "shapes", "kind", "message"),
    [
        (conv(6, 4, 3), [(1, 5, 9, 9)], ValueError,
         "input (1, 5, 9, 9) does not fit the network: "),
        (nn.Sequential(conv(6, 4, 3), conv(4, 4, 9)), [(1, 6, 8, 8)], ValueError,
         "input (1, 6, 8, 8) does not fit the network: module '1' says: "),
        (conv(6, 4, 3), [], ValueError, "no input shape: give one such as (1, 3, 224, 224)"),
        (Function(lambda x: x if x.sum() > 0 else -x), [X], Unsupported,
         "the network runs for input (2, 6, 9, 11) but torch.export cannot trace it: "),
    ],
)  # fmt: skip
def test_refusals_say_where_and_why(net, shapes, kind, message):
    with pytest.raises(kind) as error:
        capture(net, *shapes)
    assert str(error.value).startswith(message)


def test_a_refusal_is_said_once(caplog):
    with pytest.raises(
        ValueError, match=r"input \(1, 3, 32, 32\) does not fit the network: module"
    ):
        capture(construct("alexnet"), (1, 3, 32, 32))
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
