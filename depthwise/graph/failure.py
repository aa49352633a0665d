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

from depthwise.graph.graph import Unsupported


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

    The network is run once more on shapes alone: where that fails too, the input does not fit
    it, and the innermost module then running is where; else its code cannot be traced.
    """
    shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
    running: list[str] = [""]
    try:
        with _following(net, running), FakeTensorMode(allow_non_fake_inputs=True) as mode:
            net(*(_stand_in(x, mode) for x in inputs))
    except (DataDependentOutputException, DynamicOutputShapeException) as failure:
        return Unsupported(
            f"module {running[-1] or '(the network itself)'!r} decides by the values of tensors, "
            f"at {_line(failure)}: a library runs the same steps for every input; compute both "
            "and combine them with arithmetic, or decide outside of the network"
        )
    except Exception as failure:
        reason = str(failure).strip().split("\n")[0]
        advice = "take a larger input, or the number of channels that the network was built for"
        if any(x.ndim == 3 for x in inputs):
            advice = "images come in batches, one image too: (1, 3, 224, 224)"
        return ValueError(
            f"input {shapes} does not fit the network: module {running[-1]!r} says: {reason}; "
            f"{advice}"
        )
    reason = str(error).strip().split("\n")[0]
    return Unsupported(
        f"the network runs for input {shapes} but torch.export cannot trace it: {reason}; "
        "remove what depends on Python objects from its forward"
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
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: running.append(name)))
        hooks.append(module.register_forward_hook(lambda *_: running.pop() and None))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _line(failure: Exception) -> str:
    """Return the last line of code that is not PyTorch's own."""
    frames = traceback.extract_tb(failure.__traceback__)
    torch_folder = str(Path(torch.__file__).parent)
    own = [frame for frame in frames if not frame.filename.startswith(torch_folder)]
    return f"{own[-1].filename}:{own[-1].lineno} ({own[-1].line})"
