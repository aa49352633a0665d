"""Why a network could not be exported, in words its author can act on."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)

from depthwise.errors import Unsupported
from depthwise.escaping import text_of
from depthwise.graph.frontends.torch.aten import RULES
from depthwise.graph.frontends.torch.preserve import evaluating
from depthwise.graph.graph import Graph, Node
from depthwise.graph.ops import Opaque

SUPPORTED = (
    "convolutions (plain, transposed, deformable), linear layers, matrix products, batch, layer, "
    "instance and group normalisation, pooling, activations, arithmetic, softmax, concatenation, "
    "slicing, padding, resizing and reshaping"
)


def supported(graph: Graph) -> Graph:
    """Return the graph, or raise Unsupported naming the first thing without a meaning to us.

    A library takes, computes and returns float32.
    """
    for name, type_ in graph.inputs.items():
        if type_.dtype != "float32":
            raise Unsupported(
                f"input {name} is {type_.dtype}: libraries compute in float32; call net.float(), "
                "and give it images as numbers of that type"
            )
    for node in graph:
        if isinstance(node.op, Opaque) or node.type.dtype != "float32":
            name = node.op.operator if isinstance(node.op, Opaque) else type(node.op).__name__
            where = f" ({node.line})" if node.line else ""
            raise Unsupported(
                f"operator {name} in module {node.path or '(the network itself)'!r}{where} "
                f"{_complaint(graph, node)}"
            )
    for output in graph.outputs:
        type_ = graph.type(output.value)
        if not type_.size:
            raise Unsupported(
                f"output {output.name or output.value} has the shape {type_.shape}, no elements: "
                "do not return it"
            )
        if type_.dtype != "float32":
            raise Unsupported(
                f"output {output.name or output.value} is a constant of {type_.dtype}: libraries "
                "return float32; make it that with .float(), or keep it outside of the network"
            )
    return graph


def _complaint(graph: Graph, node: Node) -> str:
    """Return what is wrong with an operator that we do not know or a type, and what to do."""
    made, unknown = node.type.dtype, False
    if isinstance(node.op, Opaque):
        packet = ".".join(node.op.operator.split(".")[:2])
        unknown = made == "float32" or packet.removesuffix("_") not in RULES
    if unknown:
        return (
            f"is not supported: build that module from {SUPPORTED}, or keep it outside of the "
            "network"
        )
    read = dict.fromkeys(graph.type(name).dtype for name in node.inputs)
    if made in read:
        return (
            f"gives {made}, as a tensor that it reads is: {made} is not computed yet, libraries "
            "compute in float32; make that tensor float32 with .float()"
        )
    return (
        f"makes {made} of {' and '.join(read) or 'nothing'}: {made} is not computed yet, libraries "
        "compute in float32; drop it where it changes nothing, else keep it outside of the network"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch from logging tracebacks of its own: what is wrong is said once, by us."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def explain(error: Exception, net: nn.Module, inputs: tuple[Tensor, ...]) -> Exception:
    """Return the ValueError or Unsupported to raise for a failed export.

    The network is run once more on shapes alone, which tells where it decides by values. Where that
    fails for another reason it is run on zeros, with nothing of ours around it: if it fails still,
    the input does not fit it, and the innermost module then running is where; else its code cannot
    be traced.
    """
    running: list[str] = [""]
    try:
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        with evaluating(net), _following(net, running), fake as mode:
            net(*(_stand_in(x, mode) for x in inputs))
    except (DataDependentOutputException, DynamicOutputShapeException) as failure:
        return Unsupported(
            f"module {running[-1] or '(the network itself)'!r} decides by the values of tensors"
            f"{_line(failure)}: a library runs the same steps for every input; compute both "
            "and combine them with arithmetic, or decide outside of the network"
        )
    except Exception as failure:
        real = not any(isinstance(x, FakeTensor) for x in inputs)
        misfit = _failure_on_zeros(net, inputs) if real else failure
        if misfit and not _blames_the_input(misfit):
            raised = ": ".join(filter(None, (type(misfit).__name__, _first_line(misfit))))
            return ValueError(
                f"the network's forward raises {raised}{_line(misfit)}: mend it, or give an input "
                f"that it is for, where {_shapes(inputs)} is not"
            )
        if misfit:
            advice = "take a larger input, or the number of channels that the network was built for"
            if any(x.ndim == 3 for x in inputs):
                advice = "images come in batches, one image too: (1, 3, 224, 224)"
            return ValueError(
                f"input {_shapes(inputs)} does not fit the network: module "
                f"{running[-1] or '(the network itself)'!r} says: {_reason(misfit)}; {advice}"
            )
    return Unsupported(
        f"the network runs for input {_shapes(inputs)} but torch.export cannot trace it: "
        f"{_reason(error)}; {_advice(net)}"
    )


def _blames_the_input(failure: Exception) -> bool:
    """Tell whether PyTorch raised it, or a check of the network's own, as of the size of images."""
    frames = traceback.extract_tb(failure.__traceback__)
    if frames and Path(frames[-1].filename).is_relative_to(Path(torch.__file__).parent):
        return True
    checks = (RuntimeError, AssertionError, IndexError)
    return isinstance(failure, checks) and not isinstance(failure, RecursionError)


def _failure_on_zeros(net: nn.Module, inputs: tuple[Tensor, ...]) -> Exception | None:
    """Run the network as it is, and return what it raises."""
    try:
        with evaluating(net), torch.no_grad():
            net(*map(torch.zeros_like, inputs))
    except Exception as failure:
        return failure
    return None


def _shapes(inputs: tuple[Tensor, ...]) -> str:
    return ", ".join(str(tuple(x.shape)) for x in inputs)


def _reason(error: Exception) -> str:
    """Return the first line of an error's text, or its kind where it has none."""
    return _first_line(error) or type(error).__name__


def _first_line(error: Exception) -> str:
    return text_of(error).partition("\n")[0]


def _advice(net: nn.Module) -> str:
    """Return what to do about a network that runs and cannot be traced."""
    for name, module in net.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            which = f"module {name!r}" if name else "the network"
            return f"{which} is scripted: give the module that it was scripted from"
    return (
        "remove from its forward what depends on Python objects or assigns to the module's own "
        "tensors"
    )


def _stand_in(x: Tensor, mode: FakeTensorMode) -> Tensor:
    """Return a tensor of x's shape for a mode; x may be one itself, of another mode."""
    if isinstance(x, FakeTensor):
        return torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return mode.from_tensor(x)


@contextmanager
def _following(net: nn.Module, running: list[str]) -> Iterator[None]:
    """Keep in `running` the paths of the modules that are at work, the innermost last."""
    hooks = []
    for name, module in net.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue  # takes no hooks
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: running.append(name)))
        hooks.append(module.register_forward_hook(lambda *_: running.pop() and None))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _line(failure: Exception) -> str:
    """Return ", at" the last line of code that is neither PyTorch's nor ours, and who called it."""
    folders = [Path(torch.__file__).parent, Path(__file__).parents[2]]
    frames = [
        frame
        for frame in traceback.extract_tb(failure.__traceback__)
        if not any(Path(frame.filename).is_relative_to(folder) for folder in folders)
    ]
    last = [f"{frame.filename}:{frame.lineno} ({frame.line})" for frame in frames[-2:]]
    return f", at {', called at '.join(reversed(last))}" if last else ""
