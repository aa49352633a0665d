"""What happened in a run that failed: the modules at work, and whose results the last step read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from depthwise.graph.frontends.torch.arguments import ExportArguments
from depthwise.graph.frontends.torch.stand_ins import run_on_shapes


class Course(TorchDispatchMode):
    """Follows a run on shapes.

    Attributes:
        running: The paths of the modules at work, the innermost last.
        feeding: The path of the module whose result the last operator read, the latest of several;
            empty where it read none that depends on the network's inputs.
    """

    def __init__(self):
        super().__init__()
        self.running = [""]
        self.feeding = ""
        self._returned = 0
        self._origins: Any = (
            WeakTensorKeyDictionary()
        )  # tensor -> (when, path) of a module's result

    @property
    def module(self) -> str:
        """The innermost module at work, as messages name it."""
        return self.running[-1] or "(the network itself)"

    def run(self, net: nn.Module, inputs: Sequence[Tensor], arguments: ExportArguments) -> None:
        """Run a network on stand-ins for its inputs; it raises whatever it does."""
        with self._following(net):
            run_on_shapes(net, inputs, arguments, self)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        """Pass the origin of what an operator reads on to what it makes."""
        read = [self._origins[x] for x in _tensors((args, kwargs)) if x in self._origins]
        self.feeding = max(read, default=(0, ""))[1]
        result = func(*args, **(kwargs or {}))
        if read:
            for made in _tensors(result):
                self._origins[made] = max(read)
        return result

    @contextmanager
    def _following(self, net: nn.Module) -> Iterator[None]:
        hooks = []
        for name, module in net.named_modules():

            def begin(_: nn.Module, inputs: Any, named: Any, name: str = name) -> None:
                self.running.append(name)
                if not name:
                    self._origins.update(dict.fromkeys(_tensors((inputs, named)), (0, "")))

            def end(_: nn.Module, _inputs: Any, result: Any, name: str = name) -> None:
                self.running.pop()
                self._returned += 1
                for made in _tensors(result):
                    if made in self._origins:
                        self._origins[made] = (self._returned, name)

            hooks.append(module.register_forward_pre_hook(begin, with_kwargs=True))
            hooks.append(module.register_forward_hook(end))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _tensors(values: Any) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(values) if isinstance(x, Tensor)]
