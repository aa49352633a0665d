"""The caller's network after each verb: as it was, whatever its own code did, or how it failed."""

import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.analysis.explain import explain
from depthwise.graph import trace
from depthwise.report import network_picture

SHAPE = (1, 3, 8, 8)


class Meddling(nn.Module):
    """Does in its forward all that a forward can do to itself; then something else."""

    def __init__(self, then: Callable = lambda x: x):
        super().__init__()
        self.then, self.calls, self.seen, self.kept = then, 0, [], {"sizes": {1}}
        self.plain, self.late = torch.zeros(3), None
        self.weight = nn.Parameter(torch.ones(3, 1, 1))
        self.inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout())
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x):
        self.calls += 1
        self.seen.append(x)
        self.kept["last"] = x
        self.kept["sizes"].add(x.shape[-1])
        self.plain += 1
        self.count.add_(1)
        self.weight.requires_grad_(False)
        self.inner[0].weight.data = x.mean((0, 2, 3)).reshape(1, 3, 1, 1).repeat(3, 1, 1, 1)
        self.inner[0].register_forward_hook(lambda *_: None)
        self.inner.train()
        self.inner.add_module("more", nn.ReLU())
        if self.late is None:
            self.late = nn.Conv2d(3, 3, 1)
        torch.manual_seed(7)
        random.seed(7)
        np.random.seed(7)
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
        try:
            return self.then(self.inner(x) * self.weight)
        finally:
            torch.set_default_dtype(torch.float64)


class Merging(nn.Module):
    """Adds a part of its weights to another where it is put into evaluation."""

    def __init__(self):
        super().__init__()
        self.weight, self.part = (nn.Parameter(torch.randn(3, 3, 1, 1)) for _ in range(2))
        self.merged = False

    def train(self, mode=True):
        if not mode and not self.merged:
            self.weight.data += self.part.data
        self.merged |= not mode
        return super().train(mode)

    def forward(self, x):
        weight = self.weight if self.merged else self.weight + self.part
        return nn.functional.conv2d(x, weight)


class Folding(nn.Module):
    """Gives its own parameter other data in each forward."""

    def __init__(self):
        super().__init__()
        self.first, self.folded = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        self.folded.weight.data = self.first.weight.data * 2
        return self.folded(x)


def raising(_):
    raise RuntimeError("no")


def interrupted(_):
    raise KeyboardInterrupt


def deciding(x):
    return x if x.sum() > 0 else -x


def scripted():
    return nn.Sequential(torch.jit.script(nn.Conv2d(3, 3, 1)), nn.ReLU())


NETS = {
    "meddling": Meddling,
    "meddling, raising": lambda: Meddling(raising),
    "meddling, interrupted": lambda: Meddling(interrupted),
    "meddling, deciding by values": lambda: Meddling(deciding),
    "meddling, with an operator unknown": lambda: Meddling(torch.erfinv),
    "plain, in training": lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)),
    "merging": Merging,
    "folding": Folding,
    "scripted": scripted,
}
VERBS = {
    "cost": dw.cost,
    "lint": dw.lint,
    "draw": lambda net, shape: network_picture(trace(net, shape), "a network"),
    "explain": lambda net, shape: explain(trace(net, shape)),
    "compile": dw.compile,
}


def snapshot(net):
    """Return all that can be seen of a network, and of PyTorch, to be compared with ==."""

    def seen(value):
        if isinstance(value, torch.Tensor):
            gradient = seen(value.grad) if value.is_leaf and value.grad is not None else None
            memory = value.data_ptr() if type(value.data) is torch.Tensor else type(value.data)
            elements = value.detach().tolist() if memory == value.data_ptr() else None
            return (id(value), type(value), memory, elements, value.requires_grad, gradient)
        if isinstance(value, dict):
            return (id(value), [(key, seen(part)) for key, part in value.items()])
        if isinstance(value, list | tuple):
            return (id(value), [seen(part) for part in value])
        return (id(value), repr(value) if isinstance(value, set) else type(value))

    modules = [
        (name, id(module), type(module), module.training, seen(vars(module)))
        for name, module in net.named_modules()
    ]
    tensors = [seen(t) for t in (*net.parameters(), *net.buffers())]
    state = (
        torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate(),
        torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
    )  # fmt: skip
    return modules, tensors, state


@pytest.fixture(autouse=True)
def _globals():
    yield
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("shape", [SHAPE, (1, 2, 8, 8)], ids=["fits", "does not fit"])
def test_every_verb_leaves_the_network_as_it_was(verb, kind, shape):
    net = NETS[kind]()
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    before = snapshot(net)
    try:
        VERBS[verb](net, shape)
    except (Exception, KeyboardInterrupt) as error:
        failure = error  # whatever it is: what is left counts here
    else:
        failure = None
    assert snapshot(net) == before, failure


def test_what_is_compiled_is_the_network_in_evaluation():
    net, x = Merging().train(), np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    library = dw.compile(net, SHAPE)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(library(x), expected, rtol=1e-5, atol=1e-5)


def test_modules_that_are_built_at_their_first_input_are_refused_as_they_are():
    net = nn.Sequential(nn.LazyConv2d(4, 1))
    with pytest.raises(ValueError, match=r"0\.weight has no shape yet.* run the network once"):
        dw.cost(net, SHAPE)
    assert isinstance(net[0], nn.LazyConv2d)
    assert net(torch.zeros(SHAPE)).shape == (1, 4, 8, 8)


class Statistics:
    """A plain object that a network keeps."""

    def __init__(self):
        self.count, self.total, self.history = 0, torch.zeros(1), Counter()


class Keeping(nn.Module):
    """Writes to an object of its own, and to arrays that are no tensors."""

    def __init__(self):
        super().__init__()
        self.kept, self.array, self.bytes = Statistics(), np.zeros(2), bytearray(b"a")

    def forward(self, x):
        self.kept.count += 1
        self.kept.history.update(["call"])
        self.array += 1
        self.bytes.append(1)
        return x * 2


@pytest.mark.parametrize("verb", [dw.cost, dw.lint, dw.compile])
def test_plain_objects_and_arrays_come_back(verb):
    net = Keeping().eval()
    kept = net.kept
    verb(net, (1, 3, 8, 8))
    assert net.kept is kept
    assert (kept.count, kept.history, bytes(net.bytes)) == (0, Counter(), b"a")
    assert kept.total.item() == 0
    np.testing.assert_array_equal(net.array, 0)
