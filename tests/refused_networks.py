"""Networks that cannot be compiled as they are: what the refusal of each has to say.

Everything here is what people write; each case has the words that must be in the message.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

IMAGE = (1, 3, 8, 8)


class Refused(NamedTuple):
    """A network, its inputs, and what the message must hold."""

    build: Callable[[], nn.Module]
    words: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...] = (IMAGE,)
    error: str = "Unsupported"


class After(nn.Module):
    """A stem, and a function of what it returns."""

    def __init__(self, function, **parts):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.function(self, self.stem(inputs[0]), *inputs[1:])


def after(function, **parts):
    return lambda: After(function, **parts)


def assigned(self, x):
    self.stem[0].weight.data = self.stem[0].weight.data * 2
    return self.stem[0](torch.zeros(1, 3, 8, 8)) + x


def numbers(_, x):
    return x * float(np.asarray(x.detach().numpy()).shape[1])


def looped(_, x):
    while x.mean() > 1:
        x = x / 2
    return x


def kept(_, x):
    boxes, scores = x.reshape(-1, 4), x.reshape(-1, 4).sum(1)
    return boxes[torchvision.ops.nms(boxes, scores, 0.5)]


def missing(_, x):
    import no_such_package_at_all

    return no_such_package_at_all.f(x)


class Unhelpful(nn.Module):
    """Has no forward."""


class Lost(torch.autograd.Function):
    """A function of PyTorch's that computes with NumPy."""

    @staticmethod
    def forward(_, x):
        return torch.from_numpy(np.tanh(x.numpy()))


def lost(_, x):
    return Lost.apply(x)


def quantized():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval()
        return torch.ao.quantization.quantize_dynamic(net, {nn.Linear})


def static_quantized():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        net = torch.ao.quantization.QuantWrapper(parts).eval()
        net.qconfig = torch.ao.quantization.get_default_qconfig("x86")
        torch.ao.quantization.prepare(net, inplace=True)
        net(torch.zeros(IMAGE))
        return torch.ao.quantization.convert(net)


def under_autocast():
    def run(_, x):
        with torch.autocast("cpu", torch.bfloat16):
            return F.conv2d(x, torch.ones(1, 4, 1, 1))

    return After(run)


def caught(self, x):
    try:
        return self.other(x)
    except RuntimeError:
        return x


@torch.library.custom_op("depthwise_tests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    """Stands for a kernel of a project's own, in Triton or CUDA."""
    return x * 2


def without_weights(self, x):
    return F.linear(x.flatten(1), self.head.weight.to_sparse())


VALUES, FIXED = "by the values of tensors", "a library runs the same steps for every input"
END = "until='stem'"

REFUSED = {
    "branch on a sum": Refused(
        after(lambda _, x: x if x.sum() > 0 else -x), (VALUES, FIXED, END, "refused_networks.py:")),
    "while": Refused(after(looped), (VALUES, END, "while x.mean() > 1")),
    "item": Refused(after(lambda _, x: x * x.max().item()), ("reads a number", FIXED, END)),
    "float of a tensor": Refused(after(lambda _, x: x * float(x.max())), ("reads a number", END)),
    "range of a tensor": Refused(
        after(lambda _, x: sum(x * i for i in range(int(x.sum())))), (VALUES, END)),
    "nonzero": Refused(after(lambda _, x: x.nonzero()), ("as many elements", END)),
    "unique": Refused(after(lambda _, x: torch.unique(x)), ("as many elements", END)),
    "boolean mask": Refused(after(lambda _, x: x[x > 0]), ("as many elements", END)),
    "masked_select": Refused(after(lambda _, x: x.masked_select(x > 0)), (END,)),
    "where of one": Refused(after(lambda _, x: torch.where(x > 0)[0]), ("as many elements", END)),
    "nms": Refused(after(kept), ("nms", "as many elements", END)),
    "repeat_interleave by a tensor": Refused(
        after(lambda _, x: x.repeat_interleave((x[0, 0, 0] > 0).long(), 3)), (END,)),
    "bincount": Refused(after(lambda _, x: torch.bincount(x.flatten().long())), (END,)),
    "numpy": Refused(after(numbers), ("NumPy", "refused_networks.py:")),
    "numpy in a function": Refused(after(lost), ("NumPy",)),
    "tolist": Refused(after(lambda _, x: x * x[0, 0, 0].tolist()[0]), ("stem",)),
    "weights that grow": Refused(after(assigned), ("no function of its inputs", "called again")),
    "fft": Refused(after(lambda _, x: torch.fft.fft2(x).real), ("fft_fft2", END)),
    "rfft": Refused(after(lambda _, x: torch.fft.irfft(torch.fft.rfft(x))), ("fft_rfft", END)),
    "complex": Refused(after(lambda _, x: torch.complex(x, x).abs()), ("complex", END)),
    "sparse": Refused(after(without_weights, head=nn.Linear(144, 2)), ("sparse",)),
    "unknown": Refused(after(lambda _, x: torch.special.bessel_j0(x)), ("bessel_j0", END)),
    "draws": Refused(after(lambda _, x: x + torch.randn_like(x)), ("draws random numbers",)),
    "dropout in evaluation": Refused(
        after(lambda _, x: F.dropout(x, 0.5, True)), ("draws random numbers", "self.training")),
    "autocast": Refused(
        under_autocast, ("in module '(the network itself)'", "under autocast", "disable it there")),
    "quantised": Refused(quantized, ("quantised: give the network before",)),
    "quantised parts": Refused(static_quantized, ("module 'quant' is quantised",)),
    "meta": Refused(
        lambda: nn.Conv2d(3, 4, 3).to("meta"), ("is on the meta device", "net.to_empty"),
        error="ValueError"),
    "exception caught": Refused(after(caught, other=nn.Conv2d(9, 4, 3)), ("catches an exception",)),
    "loss": Refused(
        after(lambda _, x, y: F.cross_entropy(x, y)), ("leave losses out",),
        (IMAGE, (1, 6, 6)), error="ValueError"),
    "operator of its own": Refused(after(lambda _, x: torch.ops.depthwise_tests.twice(x)),
                                   ("depthwise_tests.twice", "PyTorch's")),
    "missing import": Refused(
        after(missing), ("imports no_such_package_at_all, which is not there", "install it"),
        error="ValueError"),
    "no forward": Refused(Unhelpful, ("a forward of its own",), error="ValueError"),
    "cuda in forward": Refused(
        after(lambda _, x: x + torch.ones(4, 6, 6).cuda()), ("x.device",), error="ValueError"),
    "too few inputs": Refused(
        after(lambda _, x, y: x + y), ("missing 1 required positional", "mend it"),
        error="ValueError"),
    "too many inputs": Refused(
        lambda: nn.Conv2d(3, 4, 3), ("too many positional", "a shape for each input"),
        (IMAGE, IMAGE), error="ValueError"),
    "channels": Refused(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3)),
        ("module '1' says:", "as many channels"), error="ValueError"),
    "too small": Refused(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(9)),
        ("module '1' says:", "a larger input"), error="ValueError"),
    "rank": Refused(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
        ("images come in batches",), ((3, 8, 8),), error="ValueError"),
    "linear": Refused(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(5, 2)),
        ("module '1' says:", "linear layers were built for"), error="ValueError"),
    "types mixed": Refused(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3).double()),
        ("in module '1'", "net.float()"), error="ValueError"),
    "integers asked for": Refused(
        lambda: nn.Embedding(10, 4), ("as whole numbers",), ((1, 8),), error="ValueError"),
    "statistics of the batch": Refused(
        lambda: nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3, track_running_stats=False)),
        ("track_running_stats",), error="ValueError"),
    "assertion of its own": Refused(
        after(lambda *_: 1 / 0), ("ZeroDivisionError", "refused_networks.py:", "mend it"),
        error="ValueError"),
    "a part that is not there": Refused(
        after(lambda self, x: self.missing(x)),
        ("AttributeError", "refused_networks.py:", "mend its forward"), error="ValueError"),
    "an argument that is not given": Refused(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Bilinear(4, 4, 4)),
        ("in module '1'", "'input2'", "mend its forward"), error="ValueError"),
    "lazy": Refused(
        lambda: nn.Sequential(nn.LazyConv2d(4, 3)), ("run the network once",), error="ValueError"),
}  # fmt: skip
