"""Networks that assign to `.data` of their own weights when they run, as those do that fold layers.

torch.export cannot trace the assignment. Here it is followed: from then on the module has what was
assigned, and what that was computed from is in the program.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


@contextmanager
def following_assignments(net: nn.Module) -> Iterator[None]:
    """Trace what is read of `.data` and assigned to it; modules have their own weights after it."""
    mode = _Assignments(net)
    try:
        with mode:
            yield
    finally:
        for module, name in mode.assigned:
            vars(module).pop(name, None)


class _Assignments(TorchFunctionMode):
    """`assigned` are modules and names of parameters that an attribute stands in front of."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.assigned: list[tuple[nn.Module, str]] = []
        self._net = net

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Read and assign `.data` by operators that can be traced; all else as it is."""
        if func == torch.Tensor.data.__get__:  # type: ignore[attr-defined]
            return args[0].detach()
        if func == torch.Tensor.data.__set__ and self._assign(*args):  # type: ignore[attr-defined]
            return None
        return func(*args, **(kwargs or {}))

    def _assign(self, parameter: torch.Tensor, value: torch.Tensor) -> bool:
        """Let the modules that have a parameter have `value`; false where none has it."""
        owners = [
            (module, name)
            for module in self._net.modules()
            for name, own in (*module._parameters.items(), *module._buffers.items())
            if own is parameter
        ]
        for module, name in owners:
            vars(module)[name] = value  # which Python finds before the module's own
        self.assigned += owners
        return bool(owners)
