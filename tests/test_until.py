"""`until`: a network that ends with what one of its modules returns, or with a value."""

import json
from collections import OrderedDict

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import depthwise as dw
from depthwise.cli.command import run
from depthwise.graph import interpret

SHAPE = (1, 3, 8, 8)


class Pyramid(nn.Module):
    """A trunk, a head that is called twice, an auxiliary head, and an end that cannot be traced."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(OrderedDict(
            conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), act=nn.ReLU()
        ))  # fmt: skip
        self.head, self.aux = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 9, 1)
        self.parts = nn.ModuleList([nn.Conv2d(4, 3, 1)])
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        try:
            x = self.trunk(x * self.scale)
            large = self.head(x).relu_()
        except Exception:
            return x
        small = self.head(nn.functional.max_pool2d(x, 2))
        part = self.parts[0](x)
        if self.training:
            return self.aux(x)
        return large[large > small.mean()], part


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Pyramid().eval()
    nn.init.uniform_(net.trunk.norm.running_var, 0.5, 2)
    return net


@pytest.fixture
def x():
    return torch.randn(SHAPE)


def expected(net, x):
    """Return what the modules of the network give."""
    with torch.no_grad():
        y = net.trunk(x * net.scale)
        calls = net.head(y), net.head(nn.functional.max_pool2d(y, 2))
        return {
            "trunk.conv": [net.trunk.conv(x * net.scale)], "trunk": [y], "head": list(calls),
            "parts.0": [net.parts[0](y)],
        }  # fmt: skip


def computed(source, x):
    values = interpret(source.graph, x.numpy())
    return [values[output.value] for output in source.graph.outputs]


def close(found, tensors):
    assert len(found) == len(tensors)
    for array, tensor in zip(found, tensors, strict=True):
        np.testing.assert_allclose(array, tensor.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("end", ["trunk.conv", "trunk", "head", "parts.0"])
def test_a_network_ends_with_what_a_module_returns(net, x, end):
    source = dw.open(net, SHAPE, until=end)
    assert source.name == "Pyramid"
    close(computed(source, x), expected(net, x)[end])
    close(source.run([x.numpy()]), expected(net, x)[end])


def test_the_network_itself_stays_as_it_was(net):
    before = {name: vars(module).copy() for name, module in net.named_modules()}
    hooks = [len(module._forward_hooks) for module in net.modules()]
    source = dw.open(net, SHAPE, until="trunk")
    assert source.graph
    source.run([np.zeros(SHAPE, np.float32)])
    assert net.calls == 0
    assert [len(module._forward_hooks) for module in net.modules()] == hooks
    assert {name: vars(module) for name, module in net.named_modules()} == before
    assert type(net) is Pyramid


def test_what_comes_after_is_not_counted(net):
    cost = dw.cost(net, SHAPE, until="trunk")
    kept = [net.scale, *net.trunk.parameters()]
    assert (cost.params, cost.unused_params) == (sum(p.numel() for p in kept), 0)
    assert cost.macs == 4 * 3 * 9 * 36
    assert {layer.path for layer in cost.layers} >= {"trunk.conv", "trunk.norm", "trunk.act"}


def test_programs_and_graphs_end_with_modules_and_with_values(net, x, tmp_path):
    whole = dw.open(net, SHAPE, until="parts.0")
    torch.export.save(whole.program, tmp_path / "net.pt2")
    dw.save_graph(whole.graph, tmp_path / "net.safetensors")
    for held in (
        whole.program,
        whole.graph,
        tmp_path / "net.pt2",
        str(tmp_path / "net.safetensors"),
    ):
        for end in ("trunk", "trunk.conv"):
            source = dw.open(held, until=end)
            close(computed(source, x), expected(net, x)[end])
            assert "head.weight" not in source.graph.constants
        close(computed(dw.open(held, until="conv2d"), x), expected(net, x)["trunk.conv"])
        with pytest.raises(ValueError, match=r"until='trunk.con': no value and no module .* trunk"):
            dw.open(held, until="trunk.con")


def test_a_program_that_writes_in_place_later_ends_before_it(x):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)).eval()
    source = dw.open(dw.open(net, SHAPE).program, until="0")
    with torch.no_grad():
        close(computed(source, x), [net[0](x)])
    close(source.run([x.numpy()]), [net[0](x).detach()])


def test_a_module_called_several_times_gives_each_result_of_a_program_too(x):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.conv(x).relu_() + self.conv(-x)

    net = Twice().eval()
    source = dw.open(dw.open(net, SHAPE).program, until="conv")
    with torch.no_grad():
        close(source.run([x.numpy()]), [net.conv(x), net.conv(-x)])
        close(computed(source, x), [net.conv(x), net.conv(-x)])


def detector(path):
    """Save a model that ends in an operator whose sizes depend on values."""
    weight = np.random.default_rng(0).standard_normal((2, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["features"], "/head/Conv"),
        helper.make_node("Relu", ["features"], ["scores"], "/head/Relu"),
        helper.make_node("NonZero", ["scores"], ["places"], "/NonZero"),
    ]
    graph = helper.make_graph(
        nodes, "detector", [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("places", TensorProto.INT64, (4, None))],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return weight


def test_onnx_files_end_before_what_cannot_be_read(tmp_path, x):
    weight = torch.from_numpy(detector(tmp_path / "net.onnx"))
    with pytest.raises(dw.Unsupported, match=r"operator NonZero: .*until='scores'"):
        dw.open(tmp_path / "net.onnx")
    convolved = nn.functional.conv2d(x, weight)
    for end, tensor in (
        ("scores", convolved.relu()), ("head", convolved.relu()), ("features", convolved),
        ("/head/Conv", convolved),
    ):  # fmt: skip
        source = dw.open(tmp_path / "net.onnx", until=end)
        close(computed(source, x), [tensor])
    assert dw.open(source, SHAPE).output_shapes == source.output_shapes
    assert dw.compile(source).manifest.verification.reference == "ONNX Runtime"
    with pytest.raises(ValueError, match=r"until='score': .*the nearest are scores"):
        dw.open(tmp_path / "net.onnx", until="score")


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("heat", r"^until='heat': the network has no module of that name: the nearest are head$"),
        ("", r"^until='': the network has no module of that name"),
        ("aux", r"^until='aux': the network never calls that module, a Conv2d, in evaluation$"),
        ("parts", r"a ModuleList, in evaluation; name one of its own modules: parts\.0$"),
    ],
)
def test_names_that_no_network_ends_with(net, end, message):
    net.forward = lambda x: net.parts[0](net.trunk(x))
    with pytest.raises(ValueError, match=message):
        dw.open(net, SHAPE, until=end)


def test_a_module_that_comes_after_a_decision_is_not_reached():
    class Deciding(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.head(x if x.sum() > 0 else -x)

    with pytest.raises(
        ValueError, match=r"^until='head': the network does not come as far as that"
    ):
        dw.open(Deciding().eval(), SHAPE, until="head")


def test_structures_come_out_as_the_module_returns_them():
    class Two(nn.Module):
        def forward(self, x):
            return {"a": x + 1, "b": x * 2}

    net = nn.Sequential(OrderedDict(two=Two(), rest=nn.Identity())).eval()
    graph = dw.open(net, SHAPE, until="two").graph
    assert [output.name for output in graph.outputs] == ["a", "b"]


FILE = """
import torch
from torch import nn
def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
"""


@pytest.mark.parametrize("verb", ["cost", "compare", "draw", "lint", "export", "compile"])
def test_every_verb_takes_it(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ending.py").write_text(FILE)
    spec, shape, end = "ending.py:net", ["--shape", "1,3,8,8"], ["--until", "0"]
    options = {
        "compare": [spec, "--until-second", "0"], "compile": ["--show", "graph", *end],
        "cost": ["--json", *end], "export": ["--out", "net.onnx", *end],
    }.get(verb, end)  # fmt: skip
    assert run([verb, spec, *options, *shape]) == 0
    printed = capsys.readouterr().out
    match verb:
        case "cost":
            assert json.loads(printed)["params"] == 4 * 27 + 4
        case "compile":
            assert "# 2" not in printed
        case "export":
            assert [node.op_type for node in onnx.load("net.onnx").graph.node] == ["Conv"]
    assert run(["cost", spec, "--until", "9", *shape]) == 2
    assert "until='9': the network has no module of that name" in capsys.readouterr().err
