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
from depthwise.graph.frontends.torch.arguments import ExportArguments
from depthwise.graph.frontends.torch.preserve import evaluating


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch from logging tracebacks of its own: what is wrong is said once, by us."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def explain(
    error: Exception, net: nn.Module, inputs: tuple[Tensor, ...], arguments: ExportArguments
) -> Exception:
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
            arguments.call(net, (_stand_in(x, mode) for x in inputs))
    except (DataDependentOutputException, DynamicOutputShapeException) as failure:
        return Unsupported(
            f"module {running[-1] or '(the network itself)'!r} decides by the values of tensors"
            f"{_line(failure)}: a library runs the same steps for every input; {_instead(failure)}"
        )
    except Exception as failure:
        real = not any(isinstance(x, FakeTensor) for x in inputs)
        misfit = _failure_on_zeros(net, inputs, arguments) if real else failure
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


def _instead(failure: Exception) -> str:
    """Return what to do about steps that values decide, as the lengths of packed sequences do."""
    frames = traceback.extract_tb(failure.__traceback__)
    if any(Path(frame.filename).name == "rnn.py" for frame in frames):
        return (
            "its sequences have one length, so give recurrent layers the padded tensor itself in "
            "place of a PackedSequence"
        )
    return "compute both and combine them with arithmetic, or decide outside of the network"


def _blames_the_input(failure: Exception) -> bool:
    """Tell whether PyTorch raised it, or a check of the network's own, as of the size of images."""
    frames = traceback.extract_tb(failure.__traceback__)
    if frames and Path(frames[-1].filename).is_relative_to(Path(torch.__file__).parent):
        return True
    checks = (RuntimeError, AssertionError, IndexError)
    return isinstance(failure, checks) and not isinstance(failure, RecursionError)


def _failure_on_zeros(
    net: nn.Module, inputs: tuple[Tensor, ...], arguments: ExportArguments
) -> Exception | None:
    """Run the network as it is, and return what it raises."""
    try:
        with evaluating(net), torch.no_grad():
            arguments.call(net, map(torch.zeros_like, inputs))
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
