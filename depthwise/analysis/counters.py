"""What other counters add to our multiply-adds, and what they leave out.

Found by reading each one's source and by running it; tests/test_explain.py holds what they printed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

from depthwise.analysis.count import count_macs
from depthwise.graph import Graph, Node, ops

Terms = Iterator[tuple[str, int]]  # why, and how much: negative where something is left out

NORMALISED = "normalisation"
POOLED = "pooling"
ACTIVATED = "activations"
RESIZED = "resizing"
BIAS = "biases"
OUTPUTS = "transposed convolution, counted by output instead of input positions: an error"
DEFORMABLE = "deformable convolution, left out"
PRODUCT = "matrix products, left out"


@dataclass(frozen=True)
class Counter:
    """A tool with the version that was run, its word for its number, and the way there from MACs.

    The number is `per_mac` x our MACs and, for each node, the `terms`.
    """

    tool: str
    word: str
    per_mac: int
    terms: Callable[[Graph, Node], Terms]
    caveat: str = ""


def fvcore(graph: Graph, node: Node) -> Terms:
    """Yield what FlopCountAnalysis counts differently."""
    values = _read(graph, node)
    match node.op:
        case ops.BatchNorm():
            yield NORMALISED, (2 if _trained(graph, node) else 1) * values
        case ops.GroupNorm() | ops.LayerNorm():
            yield NORMALISED, (5 if _trained(graph, node) else 4) * values
        case ops.AdaptivePool2d("mean"):
            yield POOLED, values
        case ops.Resize():
            yield RESIZED, (4 if node.op.mode == "bilinear" else 1) * node.type.size
        case ops.DeformConv2d():
            yield DEFORMABLE, -(count_macs(graph, node) or 0)


def ptflops(graph: Graph, node: Node) -> Terms:
    """Yield what get_model_complexity_info counts differently, with backend="pytorch"."""
    values = _read(graph, node)
    match node.op:
        case ops.Conv2d() | ops.ConvTranspose2d() | ops.Linear():
            yield BIAS, _bias(node)
        case ops.BatchNorm() | ops.GroupNorm():
            yield NORMALISED, (2 if _trained(graph, node) else 1) * values
        case ops.LayerNorm():
            yield NORMALISED, values
        case ops.MaxPool2d() | ops.AvgPool2d() | ops.AdaptivePool2d():
            yield POOLED, 2 * values
        case ops.Activation() | ops.PRelu() | ops.Softmax():
            yield ACTIVATED, PTFLOPS.get(_function(node), 0) * values
        case ops.Resize():
            yield RESIZED, 2 * node.type.size
        case ops.DeformConv2d():
            yield DEFORMABLE, -(count_macs(graph, node) or 0)


# twice where both the module and the function that it calls are hooked
PTFLOPS = {"relu": 2, "prelu": 2, "elu": 2, "gelu": 2, "leaky_relu": 1, "nn.ReLU6": 1, "relu6": 1,
           "silu": 1, "softmax": 1}  # fmt: skip


def ptflops_aten(graph: Graph, node: Node) -> Terms:
    """Yield what get_model_complexity_info counts differently, with backend="aten"."""
    match node.op:
        case ops.Conv2d() | ops.ConvTranspose2d() | ops.Linear():
            yield BIAS, _bias(node)
        case ops.DeformConv2d():
            yield DEFORMABLE, -(count_macs(graph, node) or 0)


def thop(graph: Graph, node: Node) -> Terms:
    """Yield what thop.profile counts differently."""
    values = _read(graph, node)
    match node.op:
        case ops.ConvTranspose2d():
            yield OUTPUTS, _by_output(graph, node)
        case ops.BatchNorm() | ops.LayerNorm():
            yield NORMALISED, (4 if _trained(graph, node) else 2) * values
        case ops.GroupNorm() if node.op.groups == node.type.shape[1]:  # nn.InstanceNorm2d
            yield NORMALISED, (4 if _trained(graph, node) else 2) * values
        case ops.AvgPool2d():
            yield POOLED, node.type.size
        case ops.AdaptivePool2d("mean"):
            yield POOLED, values + node.type.size
        case ops.PRelu():
            yield ACTIVATED, values
        case ops.Softmax():
            yield ACTIVATED, 3 * values - values // node.type.shape[node.op.axis]
        case ops.Resize():
            yield RESIZED, (11 if node.op.mode == "bilinear" else 1) * node.type.size
        case ops.DeformConv2d():
            yield DEFORMABLE, -(count_macs(graph, node) or 0)
        case ops.MatMul():
            yield PRODUCT, -(count_macs(graph, node) or 0)


def torchinfo(graph: Graph, node: Node) -> Terms:
    """Yield what summary counts differently: each parameter once for each place where it is used.

    The places of a convolution are its output's pixels, of any other layer the images.
    """
    images = node.type.shape[0]
    match node.op:
        case ops.Conv2d():
            yield BIAS, _bias(node)
        case ops.ConvTranspose2d():
            yield BIAS, _bias(node)
            yield OUTPUTS, _by_output(graph, node)
        case ops.Linear():
            weight, *bias = (graph.type(name).size for name in node.inputs[1:])
            yield BIAS, images * sum(bias)
            repeated = images * weight - (count_macs(graph, node) or 0)
            yield "linear layers, counted for one position of each image", repeated
        case ops.BatchNorm() | ops.GroupNorm() | ops.LayerNorm() | ops.PRelu():
            trained = (name for name in graph.weights(node) if graph.constants[name].trainable)
            yield (
                "scales and shifts, one for each",
                images * sum(graph.type(name).size for name in trained),
            )
        case ops.DeformConv2d():
            yield DEFORMABLE, -(count_macs(graph, node) or 0)
        case ops.MatMul():
            yield PRODUCT, -(count_macs(graph, node) or 0)


def torch_counter(graph: Graph, node: Node) -> Terms:
    """Yield what torch.utils.flop_counter counts differently."""
    if isinstance(node.op, ops.DeformConv2d):
        yield DEFORMABLE, -2 * (count_macs(graph, node) or 0)


def calflops_macs(graph: Graph, node: Node) -> Terms:
    """Yield what calculate_flops counts differently in its MACs."""
    macs = count_macs(graph, node) or 0
    match node.op:
        case ops.ConvTranspose2d():
            yield (
                "grouped transposed convolution, divided twice by its groups: an error",
                (macs // node.op.groups - macs),
            )
        case ops.DeformConv2d():
            yield DEFORMABLE, -macs


def calflops(graph: Graph, node: Node) -> Terms:
    """Yield what calculate_flops counts differently in its FLOPs."""
    values = _read(graph, node)
    for reason, macs in calflops_macs(graph, node):
        yield reason, 2 * macs
    match node.op:
        case ops.Conv2d():
            yield BIAS, _bias(node)
        case ops.BatchNorm():
            yield NORMALISED, (2 if _trained(graph, node) else 1) * values
        case ops.GroupNorm() | ops.LayerNorm():
            yield NORMALISED, (5 if _trained(graph, node) else 4) * values
        case ops.MaxPool2d() | ops.AvgPool2d() | ops.AdaptivePool2d():
            yield POOLED, values
        case ops.Activation() | ops.PRelu() | ops.Softmax():
            yield ACTIVATED, values * (_function(node) in CALFLOPS)


CALFLOPS = {"relu", "prelu", "elu", "leaky_relu", "relu6", "silu", "gelu", "softmax"}


def pytorchcv(graph: Graph, node: Node) -> Terms:
    """Yield what the tables of pytorchcv (imgclsmob) count differently."""
    values = _read(graph, node)
    match node.op:
        case ops.Conv2d() if not _bias(node):
            # 2 x kernel x pixels - 1 for each pair of channels, as if one sum ran over all pixels
            pairs = prod(graph.type(node.inputs[1]).shape[:2])
            yield "one addition fewer for each pair of channels without a bias", -pairs
        case ops.Linear() if not _bias(node):
            yield "one addition fewer for each output without a bias", -node.type.size
        case ops.BatchNorm():
            yield NORMALISED, 4 * values
        case ops.MaxPool2d() | ops.AvgPool2d():
            yield POOLED, prod(node.op.kernel) * node.type.size
        case ops.AdaptivePool2d():
            yield POOLED, values  # its classifiers pool with a fixed window, as large as the map
        case ops.Activation():
            yield ACTIVATED, PYTORCHCV.get(_function(node), 0) * values


PYTORCHCV = {"relu": 1, "nn.ReLU6": 1, "relu6": 1, "sigmoid": 4, "leaky_relu": 2}


def _read(graph: Graph, node: Node) -> int:
    return graph.type(node.inputs[0]).size if node.inputs else 0


def _trained(graph: Graph, node: Node) -> bool:
    """Return whether a normalisation has a scale of its own."""
    return any(graph.constants[name].trainable for name in graph.weights(node))


def _bias(node: Node) -> int:
    """Return the values to which a bias is added."""
    return node.type.size if len(node.inputs) > 2 else 0


def _by_output(graph: Graph, node: Node) -> int:
    """Return the multiply-adds by output positions less those by input positions."""
    x, weight = (graph.type(name).shape for name in node.inputs[:2])
    return prod(weight) * x[0] * (prod(node.type.shape[2:]) - prod(x[2:]))


def _function(node: Node) -> str:
    match node.op:
        case ops.Activation("clamp", (0.0, 6.0)):
            return "nn.ReLU6"  # torch.nn's module is a clamp, its function is not
        case ops.Activation():
            return node.op.function
    return type(node.op).__name__.lower()


COUNTERS = (
    Counter("torch.utils.flop_counter, torch 2.14", "FLOPs", 2, torch_counter),
    Counter(
        "fvcore 0.1.5, timm's tables", "flops", 1, fvcore,
        "pooling by x.mean() adds nothing, unlike nn.AdaptiveAvgPool2d",
    ),
    Counter(
        "ptflops 0.7.5", "MACs", 1, ptflops,
        "nn.ReLU, GELU, ELU, PReLU, Upsample and poolings count twice, called as functions once; "
        "a subclass of a torch.nn layer and a @ b count nothing; torchvision.ops.DeformConv2d, the "
        "module, is estimated; one image, whatever the batch",
    ),
    Counter(
        'ptflops 0.7.5, backend="aten"', "MACs", 1, ptflops_aten, "one image, whatever the batch"
    ),
    Counter(
        "thop 0.1.1", "MACs", 1, thop,
        "a subclass of a torch.nn layer, and whatever is called as a function, counts nothing; "
        "ultralytics-thop 2.2.3 counts transposed convolution by input positions",
    ),
    Counter(
        "torchinfo 1.8.0", "mult-adds", 1, torchinfo,
        "whatever is called as a function counts nothing, but torchvision.ops.DeformConv2d, the "
        "module, is counted; a convolution is one by its class's name",
    ),
    Counter("calflops 0.3.2", "MACs", 1, calflops_macs, "a @ b counts nothing"),
    Counter(
        "calflops 0.3.2", "FLOPs", 2, calflops,
        "nn.ReLU6, h-swish and sigmoid add nothing; not reckoned here: resizing, and the bias of a "
        "transposed convolution, which it counts on a plane of another size",
    ),
    Counter(
        "pytorchcv's tables, twice what they print", "FLOPs", 2, pytorchcv,
        "of the activations only ReLU, ReLU6, leaky ReLU and sigmoid are reckoned here",
    ),
)  # fmt: skip
