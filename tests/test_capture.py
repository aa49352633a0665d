"""Capture against eager PyTorch: every operator, every layer, every network."""

import logging
import re
import typing

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from operator_cases import CASES, LAYERS, Function, X, conv, scrambled
from test_networks import side, without_larger
from torch import nn

from depthwise import layers
from depthwise.errors import Unsupported
from depthwise.families import construct, list_models
from depthwise.graph import capture, interpret, ops, trace
from depthwise.graph.frontends.torch.failure import _line


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
        exact = wanted.astype(float)
        assert np.abs(found - exact).max() <= tolerance * np.abs(exact).max()
    return graph


@pytest.mark.parametrize("name", CASES)
def test_operators_equal_pytorch(name):
    net, shapes = CASES[name]
    agree(net, *shapes)


def test_every_operator_of_the_graph_is_among_the_cases():
    used = set()
    for net, shapes in CASES.values():
        used |= {type(node.op) for node in capture(net, *shapes)}
    # pooling of regions is a layer, tested below; an opaque operator has no meaning to compare;
    # other types than float32 are in test_dtypes.py; a pass makes LocalResponseNorm of others
    others = {ops.DeformRoIPool, ops.Opaque, ops.Cast, ops.Quantize, ops.Dequantize}
    others |= {ops.LocalResponseNorm}
    assert used | others == set(typing.get_args(ops.Op))


@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_pytorch(name):
    net, shapes = LAYERS[name]
    for parameter in net.parameters():  # predictors of offsets start at zero
        parameter.data.normal_(0, 0.3)
    agree(net, *shapes)


@pytest.mark.parametrize("name", without_larger(list_models()))
def test_networks_equal_pytorch(name):
    agree(construct(name), (1, 3, side(name), side(name)))


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
def test_writing_into_a_tensor_is_seen_by_its_other_views(name):
    overwrite = OVERWRITES[name]
    agree(Function(lambda x: overwrite(x * 2)), X)


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


SQUARE = (2, 6, 9, 9)


class Inverted(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Function(torch.linalg.inv)
        self.conv = conv(6, 4, 1)

    def forward(self, x):
        return self.conv(self.inner(x))


def test_an_unknown_operator_is_named_with_its_module():
    with pytest.raises(Unsupported) as error:
        capture(Inverted(), SQUARE)
    message = str(error.value)
    where = r"operator aten.linalg_inv.default in module 'inner' \(.*building.py:\d+\) is not "
    assert re.match(where + "supported: build that module from ", message)
    assert "convolutions (plain, transposed, deformable)" in message


class Hooked(nn.Module):
    """A network that takes numbers out of tensors, which those on shapes alone do not have."""

    def __init__(self):
        super().__init__()
        self.conv = conv(3, 4, 3)
        self.conv.register_forward_hook(lambda _module, _inputs, y: y * float(y.numpy().shape[1]))

    def forward(self, x):
        return self.conv(x)


def test_trace_keeps_unknown_operators():
    graph = trace(Inverted(), SQUARE)
    assert [type(node.op).__name__ for node in graph] == ["Opaque", "Conv2d"]


@pytest.mark.parametrize(
    ("net", "shapes", "kind", "message"),
    [
        (conv(6, 4, 3), [(1, 5, 9, 9)], ValueError,
         "input (1, 5, 9, 9) does not fit the network: "),
        (nn.Sequential(conv(6, 4, 3), conv(4, 4, 9)), [(1, 6, 8, 8)], ValueError,
         "input (1, 6, 8, 8) does not fit the network: module '1' says: "),
        (conv(6, 4, 3), [], ValueError, "no input shape: give one such as (1, 3, 224, 224)"),
        (Function(lambda x: x if x.sum() > 0 else -x), [X], Unsupported,
         "module '(the network itself)' decides by the values of tensors, at /"),
        (Hooked(), [(1, 3, 8, 8)], Unsupported,
         "the network runs for input (1, 3, 8, 8) but torch.export cannot trace it"),
    ],
)  # fmt: skip
def test_refusals_say_where_and_why(net, shapes, kind, message):
    with pytest.raises(kind) as error:
        capture(net, *shapes)
    assert str(error.value).startswith(message)


def test_a_decision_is_found_within_torchvision():
    class Kept(nn.Module):
        def forward(self, x):
            return torchvision.ops.clip_boxes_to_image(x, (4, 4))[x.sum(1) > 0]

    with pytest.raises(Unsupported, match=r"makes as many elements as the values say: a library"):
        capture(Kept(), (6, 4))
    with pytest.raises(AttributeError) as error:
        torchvision.ops.box_area("no tensor")
    assert _line(error.value).startswith(f", at {__file__}:")


def test_an_image_without_a_batch_is_told_of_it():
    with pytest.raises(ValueError, match=r"one image too: \(1, 3, 224, 224\)"):
        capture(nn.Sequential(conv(3, 4, 3), nn.BatchNorm2d(4)), (3, 9, 9))


def test_a_refusal_is_said_once(caplog):
    with pytest.raises(
        ValueError, match=r"input \(1, 3, 32, 32\) does not fit the network: module"
    ):
        capture(construct("alexnet"), (1, 3, 32, 32))
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
