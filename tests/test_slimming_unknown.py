"""Networks with operators that the graph does not know: slimmed around them, and run by PyTorch."""

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.errors import Unsupported
from depthwise.graph import Graph, Node, Output, TensorType, capture, open_graph, ops, save_graph
from depthwise.graph.calls import make_call
from depthwise.graph.exporters.torch import to_module
from depthwise.graph.structure import Leaf, Nest, Plain
from depthwise.report.slimming_record import SlimmingRecord

ELSEWHERE = dw.CompileOptions("aarch64")  # so that nothing is timed
SHAPE = (1, 3, 12, 12)
OPTIONS = dw.SlimmingOptions(moves=("channels", "low_rank"), build=ELSEWHERE)


class Odd(nn.Module):
    """A classifier whose forward has operators in its middle."""

    def __init__(self, middle, classes: int = 5):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.wide = nn.Sequential(nn.Conv2d(24, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.last = nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, classes)
        self.middle = middle

    def forward(self, x):
        x = self.middle(self.wide(self.stem(x)))
        return self.head(torch.relu(self.last(x)).mean((2, 3)))


def summed(x):
    return torch.logcumsumexp(x, 1)


def quantised(x):
    return torch.fake_quantize_per_tensor_affine(x, 0.05, 3, 0, 255)


def trained(middle) -> nn.Module:
    net = Odd(middle).train()
    with torch.no_grad():
        for _ in range(20):
            net(torch.randn(16, *SHAPE[1:]))
    return net.eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((64, *SHAPE[1:])).astype(np.float32)


def test_a_network_is_slimmed_around_what_is_not_known(images, tmp_path):
    net, told = trained(summed), []
    found = dw.slim(
        net, SHAPE, "50%", images, options=OPTIONS, directory=tmp_path, tell=told.append
    )
    before, after = found.record.before, found.record.after
    assert after.macs <= before.macs / 2
    assert not after.measured
    assert after.milliseconds < before.milliseconds
    weights = {name: known.type.shape for name, known in found.graph.constants.items()}
    assert weights["wide.0.weight"][0] == 32  # all of them are read
    assert weights["stem.0.weight"][0] < 24
    assert "aten.logcumsumexp.default reads it" in found.record.pinned["wide.0"]
    (path,) = found.record.unknown
    assert found.record.unknown[path] == "aten.logcumsumexp.default"
    assert any("left as they are, for they are not known: aten.logcumsumexp" in t for t in told)
    x = torch.from_numpy(images[:5])
    again = dw.open(f"slimmed:{tmp_path}")
    with torch.no_grad():
        scores = found.module.eval()(x)
        torch.testing.assert_close(again.module.eval()(x), scores)  # type: ignore[attr-defined]
        assert (scores.argmax(1) == net(x).argmax(1)).float().mean() > 0.5
    found.module.train()(x).square().mean().backward()
    assert all(p.grad is not None for p in found.module.parameters())
    record = SlimmingRecord.model_validate_json((tmp_path / "slimming.json").read_text())
    assert record.unknown == found.record.unknown
    with pytest.raises(Unsupported, match=r"operator aten\.logcumsumexp\.default"):
        dw.compile(f"slimmed:{tmp_path}")


def filtered(x):
    return torch.fft.ifft2(torch.fft.fft2(x) * torch.linspace(0, 1, x.shape[-1])).real


@pytest.mark.parametrize("middle", [summed, quantised, filtered])
def test_a_module_runs_them_as_the_network_does(middle):
    net = Odd(middle).eval()
    graph = capture(net, SHAPE, unknown=True)
    x = torch.randn(3, *SHAPE[1:])
    with torch.no_grad():
        torch.testing.assert_close(to_module(graph).eval()(x), net(x))
    with pytest.raises(Unsupported, match=r"is not supported|makes complex64"):
        capture(net, SHAPE)


def test_results_are_told_apart_and_lists_are_passed_on():
    def both(x):
        values, places = torch.mode(x, 1)
        return values, places, torch.block_diag(x[0], x[1])

    class Both(nn.Module):
        def forward(self, x):
            return both(x)

    graph = capture(Both(), (3, 4), unknown=True)
    x = torch.randn(3, 4).round()
    for one, other in zip(to_module(graph)(x), both(x), strict=True):
        torch.testing.assert_close(one, other)


def test_they_are_saved_and_come_back(tmp_path):
    graph = capture(Odd(quantised).eval(), SHAPE, unknown=True)
    path = tmp_path / "odd.safetensors"
    save_graph(graph, path)
    again = open_graph(path)
    assert again.nodes == graph.nodes
    assert str(again) == str(graph)
    assert "call=(%0, 0.05, 3, 0, 255)" in str(graph)


def one_operator(operator: str, call, *inputs: str) -> Graph:
    types = dict.fromkeys(inputs or ("x",), TensorType((2, 3)))
    node = Node("y", ops.Opaque(operator, call=call), tuple(types), TensorType((2, 3)), "a")
    return Graph(types, {}, (node,), (Output("", "y"),))


def test_types_and_layouts_are_pytorchs_own():
    named = {"dtype": Plain("torch.float64"), "device": Plain("torch.device.cpu")}
    net = to_module(one_operator("aten._to_copy.default", make_call([Leaf("0")], named)))
    assert net(torch.ones(2, 3)).dtype == torch.float64


@pytest.mark.parametrize(("operator", "fault"), [
    ("nosuch.odd.default", "PyTorch has no operator nosuch.odd.default here: where it is of a"),
    ("aten.from_file.default", "does something else than to make tensors of tensors"),
    ("aten.copy_.default", None),
    ("load_library.x.y", "PyTorch has no operator"),
])  # fmt: skip
def test_a_file_may_not_name_any_operator(operator, fault):
    graph = one_operator(operator, make_call([Leaf("0"), Leaf("1")], {}), "x", "z")
    if fault is None:  # what writes is computed without writing
        x, z = torch.zeros(2, 3), torch.ones(2, 3)
        assert torch.equal(to_module(graph)(x, z), z)
        assert not x.any()
        return
    with pytest.raises(Unsupported, match=re.escape(fault)):
        to_module(graph)


@pytest.mark.parametrize("call", [
    {"kind": "list", "parts": []},
    {"kind": "tuple", "parts": [{"kind": "list", "parts": [{"tensor": "1"}]},
                                {"kind": "dict", "parts": []}]},
    {"kind": "tuple", "parts": [
        {"kind": "list", "parts": [{"kind": "object", "parts": [], "origin": "os:system"}]},
        {"kind": "dict", "parts": []}]},
    7,
])  # fmt: skip
def test_a_file_with_another_call_is_refused(call, tmp_path):
    from safetensors.numpy import save_file

    from depthwise.graph.serialize import KEY, describe

    document = describe(one_operator("aten.cross.default", make_call([Leaf("0")], {})))
    document["nodes"][0]["attributes"]["call"] = call
    path = tmp_path / "bad.safetensors"
    save_file({}, path, {KEY: json.dumps(document)})
    with pytest.raises(ValueError, match=r"call|structure|tuple"):
        open_graph(path)


def test_lists_lie_within_calls():
    call = make_call([Nest("list", (Leaf("0"), Leaf("1")))], {"dim": Plain(0)})
    graph = one_operator("aten.cat.default", call, "x", "z")
    x, z = torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(to_module(graph)(x, z), torch.cat([x, z]))


def test_what_only_a_library_costs_is_no_budget(images):
    for budget in ("1ms", "50% arena"):
        with pytest.raises(ValueError, match=r"no library computes, aten\.logcumsumexp.* give one"):
            dw.slim(trained(summed), SHAPE, budget, images, options=OPTIONS)


def test_what_takes_images_together_is_refused(images):
    net = trained(lambda x: torch.logcumsumexp(x, 0))
    with pytest.raises(ValueError, match=r"takes images one at a time alone, for .*logcumsumexp"):
        dw.slim(net, SHAPE, "50%", images, options=OPTIONS)


@torch.library.custom_op("depthwise_tests::doubled", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


@twice.register_fake
def _(x):
    return torch.empty_like(x)


def test_an_operator_of_the_users_own_needs_gradients(images, tmp_path):
    net = trained(twice)
    with pytest.raises(ValueError, match=r"doubled\.default in .* gives no gradients"):
        dw.slim(net, SHAPE, "50%", images, options=OPTIONS)
    twice.register_autograd(lambda _, slope: 2 * slope)
    found = dw.slim(net, SHAPE, "50%", images, options=OPTIONS, directory=tmp_path)
    assert list(found.record.unknown.values()) == ["depthwise_tests.doubled.default"]
    x = torch.from_numpy(images[:3])
    with torch.no_grad():
        again = dw.open(f"slimmed:{tmp_path}").module.eval()  # type: ignore[attr-defined]
        torch.testing.assert_close(again(x), found.module.eval()(x))


def test_what_no_file_can_hold_is_refused_before_the_search(images):
    def chosen(x):
        return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))

    with pytest.raises(Unsupported, match="cond"):
        dw.slim(trained(chosen), SHAPE, "50%", images, options=OPTIONS)
