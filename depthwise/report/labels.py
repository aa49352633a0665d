"""What a step is called in its box, from the longest wording to the shortest."""

from dataclasses import dataclass

from depthwise.analysis.units import in_units
from depthwise.graph import Graph, Node, ops
from depthwise.graph.ops import Pair
from depthwise.report.steps import Step

SYMBOLS = {
    "add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "maximum": "max", "minimum": "min",
}  # fmt: skip
FUNCTIONS = {
    "relu": "ReLU", "relu6": "ReLU6", "leaky_relu": "leaky ReLU", "hard_swish": "h-swish",
    "hard_sigmoid": "h-sigmoid", "silu": "SiLU", "gelu": "GELU", "gelu_tanh": "GELU",
}  # fmt: skip
SHORT = {
    "depthwise": "dw",
    "transposed": "tr",
    "deformable": "def",
    "linear": "fc",
    "concatenate": "concat",
}

NARROW = 120  # pixels: in a column below this all boxes have two lines, so that heights compare


@dataclass(frozen=True)
class Wording:
    """The lines in a box, and what stands at the right of a single one: its multiply-adds."""

    lines: tuple[str, ...]
    right: str = ""


def labels(graph: Graph, step: Step, room: float) -> list[Wording]:
    """Return the wordings of a step's box in a column of `room` pixels, the longest first."""
    what, short = _words(graph, step)
    channels = str(channels_of(step))
    macs = sum(layer.macs or 0 for layer in step.layers)
    right = in_units(macs) if macs else ""
    full = f"{what} → {channels}"
    whole = " · ".join(filter(None, (_functions(step.before), full, _functions(step.after))))
    last = short.split(" ")[0 if step.kind == "pooling" else -1]  # colours tell convolutions apart
    wide = [
        Wording((whole,), right), Wording((full,), right), Wording((whole,)), Wording((full,)),
        Wording((f"{short} → {channels}",)),
    ]  # fmt: skip
    narrow = [Wording((word, f"→ {channels}")) for word in (what, short, last)]
    return [*(wide if room >= NARROW else []), *narrow, Wording((last, channels))]


def channels_of(step: Step) -> int:
    """Return the channels of an image, the features of rows."""
    shape = step.node.type.shape
    return shape[1] if len(shape) > 2 else shape[-1] if shape else 1


def pixels_of(step: Step) -> int:
    """Return the height of a step's plane, 1 where it has none."""
    shape = step.node.type.shape
    return shape[2] if len(shape) == 4 else 1


def _words(graph: Graph, step: Step) -> tuple[str, str]:
    """Return the name of a step's operator in full and in short."""
    op, kind = step.node.op, step.kind
    match op:
        case ops.Conv2d() | ops.ConvTranspose2d() | ops.DeformConv2d():
            kernel = _times(graph.type(step.node.inputs[1]).shape[2:])
            detail, brief = _details(op)
            named = "" if kind in ("standard", "pointwise", "dilated", "grouped") else f"{kind} "
            return f"{named}{kernel}{detail}", f"{_abbreviate(named)}{kernel}{brief}"
        case ops.Slice(start=start, stop=stop):
            return f"channels {start} to {min(stop, start + channels_of(step)) - 1}", "slice"
        case ops.Opaque(operator=operator):
            return f"{operator} (not counted)", "unknown"
        case ops.AdaptivePool2d(function=function, size=size):
            return f"{function} {_target(size)}", function
        case ops.Reduce(function=function, axes=axes):
            planes = axes in ((2, 3), (-2, -1))
            return f"{function} of {'all pixels' if planes else f'axes {axes}'}", function
    name = _plain_words(step) or kind
    return name, SHORT.get(name, name)


def _plain_words(step: Step) -> str:
    """Return the name of an operator that has one alone, empty where its kind says all."""
    match step.node.op:
        case ops.Binary(function=function):
            return SYMBOLS[function]
        case ops.Concat():
            return "concatenate"
        case ops.MaxPool2d(kernel=kernel, stride=stride):
            return f"max {_times(kernel)}{_slash(stride)}"
        case ops.AvgPool2d(kernel=kernel, stride=stride):
            return f"mean {_times(kernel)}{_slash(stride)}"
        case ops.Resize(mode=mode):
            return f"{mode} to {_times(step.node.type.shape[2:])}"
    return ""


def _target(size: Pair) -> str:
    return "of all pixels" if size == (1, 1) else f"to {_times(size)}"


def _details(op: ops.Conv2d | ops.ConvTranspose2d | ops.DeformConv2d) -> tuple[str, str]:
    dilated = f" dilated {_one(op.dilation)}" if op.dilation != (1, 1) else ""
    return f"{dilated}{_slash(op.stride)}", f"{dilated.replace('ilated ', '')}{_slash(op.stride)}"


def _slash(stride: Pair) -> str:
    return f"/{_one(stride)}" if stride != (1, 1) else ""


def _one(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else _times(pair)


def _times(sizes: tuple[int, ...]) -> str:
    return "×".join(map(str, sizes))


def _abbreviate(named: str) -> str:
    kind = named.strip()
    return f"{SHORT.get(kind, kind)} " if kind else ""


def _functions(quiet: tuple[Node, ...]) -> str:
    """Return the functions that quiet operators compute."""
    found = []
    for node in quiet:
        match node.op:
            case ops.Activation(function=function) if function in FUNCTIONS:
                found.append(FUNCTIONS[function])
            case ops.Activation("clamp", (0.0, 6.0)):
                found.append("ReLU6")
            case ops.Activation(function="sigmoid" | "tanh" as function):
                found.append(function)
            case ops.PRelu():
                found.append("PReLU")
            case ops.Softmax():
                found.append("softmax")
            case ops.AvgPool2d():  # it pools over channels
                found.append("LRN")
            case ops.Permute(axes=axes) if len(axes) == 5:
                found.append("shuffle")
    return ", ".join(found)
