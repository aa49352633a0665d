"""Graphs as PyTorch modules: equal to the interpreter, at any number of images, and trainable."""

import copy
import warnings
from collections import Counter
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from operator_cases import CASES, LAYERS, Function
from torch import nn
from torch.utils._pytree import tree_leaves

import depthwise as dw
from depthwise.errors import Unsupported
from depthwise.families import list_models
from depthwise.graph import Constant, Graph, Node, Output, TensorType, capture, interpret, ops
from depthwise.graph.exporters.torch import to_module
from depthwise.graph.exporters.torch.axes_rules import find_axes
from depthwise.graph.exporters.torch.build import function_of
from depthwise.graph.exporters.torch.naming import name_weights
from depthwise.graph.infer import infer
from depthwise.graph.ops import Padding
from depthwise.layers import add_branches, fold_branches
from depthwise.layers.conv_norm_pairs import conv_norm_pairs
from depthwise.sources.heads import find_head, replace_head
from depthwise.sources.run_folder import ready_to_train
from depthwise.training.feature_maps import FeatureMaps
from depthwise.training.optimizer import parameter_groups

TOLERANCE = 1e-5  # of the largest output
ALL = CASES | LAYERS


def draw(graph, seed=0):
    random = np.random.default_rng(seed)
    return [type_.element.draw(random, type_.shape) for type_ in graph.inputs.values()]


def tensors_for(graph, arrays):
    pairs = zip(graph.inputs.values(), arrays, strict=True)
    return [torch.tensor(x).to(getattr(torch, type_.dtype)) for type_, x in pairs]


@torch.no_grad()
def run(net, *inputs):
    return [y.float() if y.dtype == torch.bfloat16 else y for y in tree_leaves(net(*inputs))]


def assert_equal(found, expected):
    for tensor, wanted in zip(found, expected, strict=True):
        y = tensor.numpy()
        assert (y.shape, y.dtype) == (wanted.shape, wanted.dtype)
        exact = wanted.astype(float)
        assert np.array_equal(np.isnan(y), np.isnan(exact))
        largest = np.abs(np.nan_to_num(exact)).max(initial=0)
        difference = np.abs(np.nan_to_num(y - exact)).max(initial=0)
        assert difference <= TOLERANCE * (largest or 1)


def test_every_operator_has_a_rule():
    every = set(get_args(ops.Op))
    assert every <= set(function_of.registry)
    assert every <= set(find_axes.registry)


@pytest.mark.parametrize("name", ALL)
def test_a_module_computes_what_the_interpreter_does(name):
    net, shapes = ALL[name]
    graph = capture(net.eval(), *shapes)
    arrays = draw(graph)
    values = interpret(graph, *arrays)
    found = run(to_module(graph).eval(), *tensors_for(graph, arrays))
    assert_equal(found, [values[output.value] for output in graph.outputs])


def one_operator(op, *shapes, constants=None, path=""):
    """Return a graph of one operator, some of whose inputs are constants."""
    constants = {
        name: Constant(TensorType(data.shape, str(data.dtype)), data, trainable=True)
        for name, data in (constants or {}).items()
    }
    inputs = {f"x{i}": TensorType(shape) for i, shape in enumerate(shapes)}
    types = [*inputs.values(), *(constant.type for constant in constants.values())]
    node = Node("y", op, (*inputs, *constants), infer(op, *types), path)
    return Graph(inputs, constants, (node,), (Output("", "y"),))


def assert_one_operator_is_right(op, *shapes, constants=None, path=""):
    graph = one_operator(op, *shapes, constants=constants, path=path)
    arrays = draw(graph)
    with torch.no_grad():
        found = to_module(graph).eval()(*map(torch.tensor, arrays))
    assert_equal([found], [interpret(graph, *arrays)["y"]])


WEIGHT = np.random.default_rng(1).standard_normal((4, 3, 3, 2), np.float32)


@pytest.mark.parametrize("padding", [(1, 1, 0, 0), (0, 1, 2, 3), (1, 1, 0, 1)])
@pytest.mark.parametrize("path", ["", "some.conv"])
def test_padding_that_differs_from_side_to_side(padding, path):
    weights = {f"{path}.weight".lstrip("."): WEIGHT, f"{path}.bias".lstrip("."): WEIGHT[:, 0, 0, 0]}
    op = ops.Conv2d((1, 1), Padding(*padding), (1, 1), 1)
    assert_one_operator_is_right(op, (2, 3, 7, 6), constants=weights, path=path)
    turned = ops.ConvTranspose2d((2, 2), Padding(*padding), (1, 1), 1)
    weights[next(iter(weights))] = WEIGHT[:, [0, 1, 2, 0]]
    assert_one_operator_is_right(turned, (2, 4, 7, 6), constants=weights, path=path)
    for window in (
        ops.MaxPool2d((4, 4), (2, 3), Padding(*padding), (1, 1), True),
        ops.MaxPoolIndices((4, 4), (2, 3), Padding(*padding), (1, 1), False),
        ops.AvgPool2d((4, 4), (2, 3), Padding(*padding), True, True, None),
        ops.AvgPool2d((4, 4), (2, 3), Padding(*padding), True, False, None),
    ):
        assert_one_operator_is_right(window, (2, 3, 7, 9))


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    "pads", [((0, 0), (0, 0), (1, 2), (3, 0)), ((0, 0), (1, 1), (-1, 2), (0, 2))]
)
def test_pads_of_every_mode(mode, pads):
    assert_one_operator_is_right(ops.Pad(pads, mode, 0.5), (2, 4, 5, 6))


# ------------------------------------------------------------------------ any number of images


UNSEEN = {"batch norm by the batch"}  # of one image it is a function of each image


@pytest.mark.parametrize("name", sorted(set(CASES) - UNSEEN) + list(LAYERS))
def test_any_number_of_images(name):
    """Each is right, or refused because the network looks at several images at once."""
    net, shapes = ALL[name]
    shapes = [s if isinstance(s, TensorType) else TensorType(s) for s in shapes]
    if len({s.shape[:1] for s in shapes}) > 1:
        pytest.skip("its inputs have no batch")
    try:
        graph = capture(net.eval(), *(TensorType((1, *s.shape[1:]), s.dtype) for s in shapes))
        inputs = [s.element.draw(np.random.default_rng(0), (3, *s.shape[1:])) for s in shapes]
        tensors = tensors_for(graph, inputs)
        expected = run(net, *tensors)
    except (ValueError, RuntimeError, Unsupported):
        pytest.skip("the network itself takes no other batch")
    module = to_module(graph).eval()
    if module._program.fixed:
        with pytest.raises(ValueError, match="captured with 1 along the first axis and takes no"):
            module(*tensors)
    else:
        assert_equal(run(module, *tensors), [y.numpy() for y in expected])


def test_images_that_are_mixed_are_refused_by_the_node_that_mixes_them():
    cases = {
        "mean .Reduce. takes images of the batch together": lambda x: x - x.mean(0, keepdim=True),
        "softmax .Softmax. goes along the images": lambda x: x.softmax(0),
        "it returns .*, in which images lie along one axis with other things": lambda x: x[0],
    }
    for message, function in cases.items():
        module = to_module(capture(Function(function), (1, 3, 4, 5)))
        module(torch.zeros(1, 3, 4, 5))
        with pytest.raises(ValueError, match=rf"takes no other number, for {message}"):
            module(torch.zeros(2, 3, 4, 5))


class Windows(nn.Module):
    """Squares of 4 pixels, each normalised over its channels with a token in front of it."""

    def __init__(self):
        super().__init__()
        self.token, self.norm = nn.Parameter(torch.randn(1, 1, 6)), nn.LayerNorm(6)

    def forward(self, x):
        n, c, h, w = x.shape
        x = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        x = self.norm(torch.cat([self.token.expand(len(x), -1, -1), x], 1))[:, 1:]
        x = x.view(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
        return x.flatten(2).transpose(1, 2).mean(1)


class Shuffled(nn.Module):
    """Halves of the channels dealt out in turn, resized to twice their size and joined."""

    def forward(self, x):
        n, c, h, w = x.shape
        y = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        y = nn.functional.interpolate(y, scale_factor=2, mode="bilinear")
        y = torch.cat([nn.functional.pad(y, (1, 2, 0, 0))[..., 2:-1], y[:, :1]], 1)
        deep = y.view(n, c + 1, h // 2, 4, w // 2, 4).permute(0, 1, 3, 5, 2, 4)
        return deep.reshape(n, -1, h // 2, w // 2).amax((2, 3))


@pytest.mark.parametrize("net", [Shuffled(), LAYERS["GhostBottleneck"][0].eval(), Windows()])
@pytest.mark.parametrize("shape", [(1, 6, 8, 12), (3, 6, 8, 12), (2, 6, 16, 8)])
def test_images_of_other_sizes(net, shape):
    graph = capture(net, (1, 6, 8, 12))
    if isinstance(net, Windows):  # whose tokens are repeated for so many windows when captured
        shape = (*shape[:2], 8, 12)
    x = torch.randn(shape)
    torch.testing.assert_close(run(to_module(graph).eval(), x), run(net, x))


def test_places_that_are_fixed_are_refused_at_other_sizes():
    half = to_module(capture(Function(lambda x: x[:, :, :4] - x[:, :, 4:]), (1, 3, 8, 8)))
    half(torch.zeros(2, 3, 8, 5))
    with pytest.raises(ValueError, match=r"slice.* takes places of an axis of 8 that were fixed"):
        half(torch.zeros(2, 3, 12, 8))


# ---------------------------------------------------------------------------- as any other module

SMALL = {"resnet20_cifar": 16, "mobilenet_v3_small": 32}


@pytest.fixture(scope="module", params=SMALL)
def pair(request):
    """Return a network, a module of its graph and the pixels of a side."""
    torch.manual_seed(0)
    side = SMALL[request.param]
    net = dw.create_model(request.param).eval()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    for layer in [layer for layer in net.modules() if isinstance(layer, nn.Dropout)]:
        layer.p = 0.0  # which is not in a graph
    return net, to_module(capture(net, (1, 3, side, side))), side


def test_layers_are_pytorchs_own_with_the_names_of_the_state_dict(pair):
    net, module, _ = pair
    theirs, ours = net.state_dict(), module.state_dict()
    assert theirs.keys() == ours.keys()
    assert [n for n, _ in module.named_parameters()] == [n for n, _ in net.named_parameters()]
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            assert repr(module.get_submodule(name)).startswith(type(layer).__name__)
    assert find_head(module)[0] == find_head(net)[0]
    module.load_state_dict(theirs)
    assert "Conv2d(" in repr(module)
    assert "Activation(" in repr(module)


def test_a_step_of_training_is_the_networks_own(pair):
    net, module, side = (copy.deepcopy(each) for each in pair)
    x = torch.randn(4, 3, side, side)
    for each in (net, module):
        ready_to_train(each)
        each(x).square().mean().backward()
    theirs, ours = dict(net.named_parameters()), dict(module.named_parameters())
    for name, parameter in theirs.items():
        torch.testing.assert_close(ours[name].grad, parameter.grad)
    state = module.state_dict()
    for name, tensor in net.state_dict().items():  # of which statistics have moved
        torch.testing.assert_close(state[name], tensor)
    decayed = [len(g["params"]) for g in parameter_groups(net, 1e-4)]
    assert [len(g["params"]) for g in parameter_groups(module, 1e-4)] == decayed


def test_it_is_evaluated_as_the_network_is(pair):
    net, module, side = pair
    x = torch.randn(3, 3, side, side)
    expected = run(net.eval(), x)[0]
    torch.testing.assert_close(run(module.eval(), x)[0], expected)
    last = x.contiguous(memory_format=torch.channels_last)
    copied = copy.deepcopy(module).to(memory_format=torch.channels_last)
    torch.testing.assert_close(run(copied, last)[0], expected, atol=1e-4, rtol=1e-4)
    other = torch.randn(2, 3, 2 * side, 2 * side)
    torch.testing.assert_close(run(module, other), run(net, other))


def test_what_changes_modules_works_on_it(pair):
    net, module, side = (copy.deepcopy(each) for each in pair)
    assert conv_norm_pairs(module) == conv_norm_pairs(net)
    maps = FeatureMaps(module, side)
    x = torch.randn(2, 3, side, side)
    replace_head(module, 7)
    assert module.eval()(x).shape == (2, 7)
    assert maps.take().shape[:2] == (2, maps.channels)
    add_branches(module, 2)
    expected = run(module.eval(), x)
    torch.testing.assert_close(run(fold_branches(module), x), expected, atol=1e-4, rtol=1e-4)
    module.requires_grad_(False)
    assert not any(p.requires_grad for p in module.parameters())


def test_it_is_captured_as_the_same_graph(pair):
    net, module, side = pair
    first, second = (capture(each, (1, 3, side, side)) for each in (net, module))
    assert [node.op for node in second] == [node.op for node in first]
    paths = [[node.path for node in each if each.weights(node)] for each in (first, second)]
    assert paths[0] == paths[1]
    assert second.constants.keys() == first.constants.keys()


def test_weights_that_are_shared_stay_shared():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.table = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 3)
            self.other = nn.Parameter(torch.randn(3))

        def forward(self, x):
            y = self.table(self.conv(self.conv(x)).mean((2, 3)))
            return nn.functional.linear(y, self.table.weight, self.other)

    net = Twice().eval()
    module = to_module(capture(net, (1, 3, 5, 5)))
    assert module.state_dict().keys() == net.state_dict().keys()
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(run(module, x), run(net, x))
    for each in (module, net):
        each.get_parameter("table.weight").data.mul_(2)
    torch.testing.assert_close(run(module, x), run(net, x))


@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_without_a_module_is_trained_by_the_batch(affine):
    norm = nn.BatchNorm2d(3, affine=affine)
    graph = capture(nn.Sequential(norm).eval(), (1, 3, 4, 4))
    module = to_module(graph)
    assert module.state_dict().keys() == nn.Sequential(norm).state_dict().keys()
    names = {name: f"w{i}" for i, name in enumerate(graph.constants)}
    nodes = tuple(
        replace(node, inputs=tuple(names.get(name, name) for name in node.inputs)) for node in graph
    )
    constants = {names[name]: constant for name, constant in graph.constants.items()}
    renamed = replace(graph, constants=constants, nodes=nodes)
    bare, named = to_module(renamed), to_module(name_weights(renamed))
    x = torch.randn(4, 3, 5, 5)
    expected = norm.train()(x)
    for each in (module, bare, named):
        torch.testing.assert_close(each.train()(x), expected)
        torch.testing.assert_close(run(each.eval(), x), run(norm.eval(), x))
    assert any(isinstance(each, nn.BatchNorm2d) for each in named.modules())


def test_what_a_network_takes_and_returns_stays_as_it_is():
    class Several(nn.Module):
        def forward(self, first, other, *, scale):
            return {"sum": first + other["y"] * scale, "parts": [first, other["y"]]}

    x, y, scale = torch.randn(3, 2), torch.randn(3, 2), torch.randn(3, 1)
    shapes = ((1, 2), {"y": (1, 2)})
    module = to_module(capture(Several(), *shapes, kwargs={"scale": (1, 1)}))
    found, expected = (each(x, {"y": y}, scale=scale) for each in (module, Several()))
    assert found.keys() == expected.keys()
    assert torch.equal(found["sum"], expected["sum"])
    with pytest.raises(ValueError, match="the network takes 3 inputs"):
        module(x)


def test_operators_that_are_not_known_are_refused():
    graph = one_operator(ops.Activation("relu"), (1, 3))
    opaque = Graph(
        graph.inputs, {}, (Node("y", ops.Opaque("aten.odd"), ("x0",), TensorType((1, 3)), "a"),),
        graph.outputs,
    )  # fmt: skip
    with pytest.raises(Unsupported, match=r"operator aten\.odd in module 'a' has no meaning here"):
        to_module(opaque)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_network_of_ours(name):
    source = dw.open(name)
    net, side = source.module.eval(), source.shapes[0][-1]
    module = to_module(source.graph).eval()
    x = torch.randn(3, 3, side, side)
    torch.testing.assert_close(run(module, x), run(net, x))
    assert module.state_dict().keys() == net.state_dict().keys()
    assert Counter(type(n.op) for n in capture(module, *source.shapes)) == Counter(
        type(n.op) for n in source.graph
    )


TIMM = (
    "resnet18", "mobilenetv3_small_100", "efficientnet_b0", "regnetx_002", "regnety_002",
    "ghostnet_100", "densenet121", "convnext_atto", "mnasnet_100", "tf_efficientnet_lite0", "dla34",
    "hardcorenas_a", "mixnet_s", "resnext26ts", "skresnet18", "hrnet_w18_small", "ese_vovnet19b_dw",
    "rexnet_100", "selecsls42", "nf_regnet_b0", "resnetv2_50", "fastvit_t8", "repvgg_a0",
    "lcnet_050", "tinynet_e", "spnasnet_100", "semnasnet_075", "fbnetc_100", "dpn48b",
    "mobileone_s0",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_networks_of_timm(name):
    """At other numbers and sizes of images than captured, and a step of training."""
    timm = pytest.importorskip("timm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the networks' own
        net = timm.create_model(name).eval()
    module = to_module(capture(net, (1, 3, 128, 128))).eval()
    for shape in ((1, 3, 128, 128), (3, 3, 160, 160)):
        x = torch.randn(shape)
        torch.testing.assert_close(run(module, x), run(net, x))
    module.train()(torch.randn(2, 3, 128, 128)).square().mean().backward()
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad) or name in (
        "convnext_atto", "nf_regnet_b0",  # of which weights are computed when captured
    )  # fmt: skip
