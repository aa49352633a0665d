"""Scripted and traced modules are followed into; what of them no library can do is refused."""

import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.graph import capture, interpret
from depthwise.graph.frontends.torch import torchscript_file

SHAPE = (2, 3, 8, 8)

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning"
)


with warnings.catch_warnings(action="ignore"):  # that TorchScript is old

    class Method(torch.jit.ScriptModule):
        """A module in TorchScript as older code writes them."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, bias=False)

        @torch.jit.script_method
        def forward(self, x):
            return torch.relu(self.conv(x))


class Looping(nn.Module):
    """Layers in a loop, a decision by a size, an argument left out, no bias, a nest of results."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU6())
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.layers.append(self.layers[0])
        self.register_buffer("shift", torch.ones(1))
        self.scale = torch.full((4,), 2.0)  # neither a parameter nor a buffer

    def forward(self, x, factor: int = 3):
        y = self.stem(x).mean((2, 3)) * self.scale
        kept = []
        for layer in self.layers:
            y = y + layer(y) * self.shift
            kept.append(y)
        if y.shape[0] > 1:
            y = y * factor
        return {"last": y, "first": kept[0]}


class Recurrent(nn.Module):
    """A layer that holds its weights in a list, too."""

    def __init__(self):
        super().__init__()
        self.layer = nn.GRU(8, 3, batch_first=True, bidirectional=True)

    def forward(self, x):
        return self.layer(x)[0]


class Deciding(nn.Module):
    def forward(self, x):
        if bool(x.sum() > 0):
            return x
        return -x


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


class Growing(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(1))

    def forward(self, x):
        self.total.add_(1)
        return x + self.total


class Reading(nn.Module):
    def forward(self, x):
        return x + torch.from_file("/etc/hostname", size=1)


class Ignoring(nn.Module):
    @torch.jit.ignore
    def python(self, x):
        return x + 1

    def forward(self, x):
        return self.python(x)


class Restoring(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = 2

    @torch.jit.export
    def __getstate__(self):
        return self.factor, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[int, bool]):
        self.factor, self.training = state

    def forward(self, x):
        return x * self.factor


def scripted(net):
    return torch.jit.script(net.eval())


def traced(net):
    return torch.jit.trace(net.eval(), torch.zeros(SHAPE), strict=False)


def expected(net, x):
    with torch.no_grad():
        found = net(torch.from_numpy(x))
    return found if isinstance(found, dict) else {"0": found}


@pytest.mark.parametrize("net", [
    lambda: nn.Sequential(nn.Conv2d(3, 3, 1), Method(), nn.BatchNorm2d(4)),
    lambda: scripted(Looping()),
    lambda: traced(Looping()),
    lambda: nn.Sequential(nn.Flatten(1, 2), scripted(Recurrent())),
    lambda: nn.Sequential(nn.Conv2d(3, 3, 1), traced(Looping())),
], ids=["method", "scripted", "traced", "recurrent", "within"])  # fmt: skip
def test_modules_in_torchscript_compute_the_same(net):
    torch.manual_seed(0)
    net, x = net().eval(), np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    graph = capture(net, SHAPE)
    values = interpret(graph, x)
    wanted = expected(net, x)
    assert len(graph.outputs) == len(wanted)
    for output, name in zip(graph.outputs, wanted, strict=True):
        np.testing.assert_allclose(values[output.value], wanted[name], 1e-5, 1e-6)


def test_an_input_that_does_not_fit_is_said_with_the_module():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), scripted(nn.Sequential(nn.Conv2d(3, 3, 1))))
    with pytest.raises(ValueError, match=r"does not fit the network: module '1' says: .*channels"):
        capture(net, SHAPE)


def test_operators_and_tensors_bear_the_names_of_their_modules():
    plain = capture(nn.Sequential(nn.Conv2d(3, 3, 1), Looping()), SHAPE)
    graph = capture(nn.Sequential(nn.Conv2d(3, 3, 1), scripted(Looping())), SHAPE)
    parameters = [name for name, c in graph.constants.items() if c.trainable]
    assert sorted(parameters) == sorted(n for n, c in plain.constants.items() if c.trainable)
    assert [type(node.op) for node in graph] == [type(node.op) for node in plain]
    paths = [node.path for node in graph if type(node.op).__name__ in ("Conv2d", "Linear")]
    assert paths[:2] == ["0", "1.stem.0"]
    assert paths[3] == "1.layers.1"


def test_a_network_in_torchscript_is_left_as_it_was():
    inner = torch.jit.script(Looping().train())
    net = nn.Sequential(nn.Conv2d(3, 3, 1), inner)
    capture(net, SHAPE)
    assert net[1] is inner
    assert inner.training
    assert inner.stem[1].num_batches_tracked == 0


def ended():
    return nn.Sequential(nn.Conv2d(3, 3, 1), scripted(Deciding()))


def foreign():
    with torch.library._scoped_library("depthwise_test", "DEF") as library:
        library.define("twice(Tensor x) -> Tensor")

        class Foreign(nn.Module):
            def forward(self, x):
                return torch.ops.depthwise_test.twice(x)

        return scripted(Foreign())


@pytest.mark.parametrize(("net", "message"), [
    (ended, r"module '1' decides by the values of tensors.*until='0'"),
    (lambda: scripted(Counting()), r"the network is in TorchScript and assigns to its calls when"),
    (lambda: nn.Sequential(scripted(Growing())), r"module '0' writes into '0\.total'"),
    (lambda: scripted(Reading()), r"calls aten::from_file, which is neither .*, or touches files"),
    (lambda: scripted(Ignoring()), r"calls prim::PythonOp, .*: give the module that it was made f"),
    (foreign, r"calls depthwise_test::twice, which is neither PyTorch's nor torchvision's"),
], ids=["decides", "assigns", "writes", "file", "python", "foreign"])  # fmt: skip
def test_what_no_library_does_is_refused(net, message):
    with pytest.raises(dw.Unsupported, match=message):
        capture(net(), SHAPE)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    torch.jit.save(scripted(Looping()), tmp_path / "net.pt")
    return tmp_path / "net.pt"


def test_a_file_of_torchscript_is_a_network(saved):
    source = dw.open(saved, SHAPE)
    assert source.name == "Looping"
    assert source.shapes == (SHAPE,)
    library = dw.compile(str(saved), SHAPE)
    x = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    wanted = expected(torch.jit.load(saved), x)
    found = library(x)
    assert list(found) == list(wanted)
    for name, y in wanted.items():
        np.testing.assert_allclose(found[name], y, 1e-4, 1e-5)
    with pytest.raises(ValueError, match="no input shape: give one such as"):
        dw.cost(saved)
    with pytest.raises(ValueError, match="the network is scripted"):
        dw.open(saved, SHAPE, until="stem")


def test_files_that_hold_no_network_in_torchscript(saved, tmp_path, monkeypatch):
    def refused(name, message):
        with pytest.raises(ValueError, match=message):
            dw.open(tmp_path / name, SHAPE)

    torch.save(Looping().state_dict(), tmp_path / "weights.pt")
    refused("weights.pt", r"weights\.pt holds no network in TorchScript.* \(--weights FILE\)")
    (tmp_path / "text.pt").write_text("not a network")
    refused("text.pt", r"text\.pt holds no network in TorchScript")
    refused("missing.pt", r"no file at .*missing\.pt: give a \.pt file that torch\.jit\.save wrote")
    saved.rename(tmp_path / "net.pt2")
    refused(
        "net.pt2", r"net\.pt2 is named .* and holds what torch\.jit\.save does: name it net\.pt"
    )
    with (
        zipfile.ZipFile(tmp_path / "net.pt2") as whole,
        zipfile.ZipFile(tmp_path / "part.pt", "w") as part,
    ):
        for name in whole.namelist():
            if not name.endswith("data.pkl"):
                part.writestr(name, whole.read(name))
    refused("part.pt", r"part\.pt is a damaged network in TorchScript: save it again")
    torch.jit.save(scripted(Restoring()), tmp_path / "restoring.pt")
    monkeypatch.delattr(torchscript_file.torch.jit, "load")  # it is not opened
    refused("restoring.pt", r"restoring\.pt holds code that runs when it is opened, in ")


def test_a_file_that_touches_files_is_refused_when_it_is_opened(tmp_path):
    torch.jit.save(scripted(Reading()), tmp_path / "net.pt")
    with pytest.raises(dw.Unsupported, match="the network is in TorchScript and calls aten::from_"):
        dw.open(tmp_path / "net.pt", SHAPE)
