"""Why a network could not be exported, in words its author can act on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
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
    it, and the last module entered is where; else the network's code cannot be traced.
    """
    entered = [""]
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: entered.append(name))
        for name, module in net.named_modules()
        if not list(module.children())
    ]
    shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            net(*(mode.from_tensor(x) for x in inputs))
    except (DataDependentOutputException, DynamicOutputShapeException):
        pass  # its shapes fit, but its course depends on values
    except Exception as failure:
        reason = str(failure).strip().split("\n")[0]
        return ValueError(
            f"input {shapes} does not fit the network: module {entered[-1]!r} says: {reason}; "
            "take a larger input, or the number of channels that the network was built for"
        )
    finally:
        for hook in hooks:
            hook.remove()
    reason = str(error).strip().split("\n")[0]
    return Unsupported(
        f"the network runs for input {shapes} but torch.export cannot trace it: {reason}; "
        "remove what depends on the values of tensors, or on Python objects, from its forward"
    )
