"""A network of PyTorch that ends early: with what one of its modules returns."""

from collections import OrderedDict
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils import _pytree as pytree

from depthwise.errors import nearest
from depthwise.escaping import in_line, text_of
from depthwise.graph.frontends.torch.arguments import ExportArguments
from depthwise.graph.frontends.torch.preserve import evaluating
from depthwise.graph.frontends.torch.stand_ins import examples, run_on_shapes

HOOKS = ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called")


class Shortened:
    """Marks a network that ends early: what the rest of it reads is no part of it."""


class _Reached(BaseException):
    """The module has returned. No Exception, so that no network takes it for one of its own."""


def end_module(net: nn.Module, arguments: ExportArguments, until: str) -> nn.Module:
    """Return a network that runs `net` as far as its module `until`, and returns what that does.

    It shares all modules with `net`, which stays as it was. A module that is called several times
    gives a tuple of what each call returns. Raises ValueError for a module that is not there, or
    that the network does not call in evaluation.
    """
    target = _find(net, until)
    count = _count_calls(net, target, until, arguments)
    kind, own = type(net), vars(net).get("forward")

    @wraps(kind.forward)
    def forward(self: nn.Module, *inputs: Any, **named: Any) -> Any:
        results: list[Any] = []

        def keep(_module: nn.Module, _inputs: Any, result: Any) -> None:
            # of several, the network may go on to write into the first
            results.append(_copied(result) if count > 1 else result)
            if len(results) == count:
                raise _Reached

        hook, within = target.register_forward_hook(keep), _modules_at_work()
        depth = len(within)
        try:
            own(*inputs, **named) if own else kind.forward(self, *inputs, **named)
        except _Reached:
            while len(within) > depth:
                within.popitem()
            return tuple(results) if count > 1 else results[0]
        finally:
            hook.remove()
        raise ValueError(f"until={until!r}: the network does not call it {count} times each time")

    return _copy_as(type(kind.__name__, (Shortened, kind), {"forward": forward}), net)


def _copy_as(kind: type[nn.Module], net: nn.Module) -> nn.Module:
    """Return a network of another class that shares all parts of one, but what follows forward."""
    shared: nn.Module = object.__new__(kind)
    vars(shared).update(vars(net))
    vars(shared).pop("forward", None)
    for name in HOOKS:
        vars(shared)[name] = OrderedDict()
    return shared


def _modules_at_work() -> dict[str, Any]:
    """Return the modules that PyTorch, where it is exporting, believes to be running.

    It takes a module out of them when that returns, and not where an exception leaves it.
    """
    mode = get_proxy_mode()
    return getattr(mode.tracer, "module_stack", {}) if mode else {}


def _copied(result: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, torch.clone, result)


def _find(net: nn.Module, until: str) -> nn.Module:
    """Return the module that is named."""
    if isinstance(net, torch.jit.ScriptModule):
        raise ValueError(
            f"until={in_line(until)!r}: the network is scripted: give the module that it was "
            "scripted from"
        )
    modules = dict(net.named_modules())
    if until in modules and until:
        if isinstance(modules[until], torch.jit.ScriptModule):
            raise ValueError(f"until={in_line(until)!r}: the module is scripted and takes no hook")
        return modules[until]
    names = [name for name in modules if name]
    raise ValueError(
        f"until={in_line(until)!r}: the network has no module of that name: "
        f"{in_line(nearest(until, names))}"
    )


def _count_calls(
    net: nn.Module, target: nn.Module, until: str, arguments: ExportArguments
) -> int:  # fmt: skip
    """Return how often the network calls a module, as far as it runs on shapes alone."""
    count, failure = 0, None

    def add(*_: Any) -> None:
        nonlocal count
        count += 1

    with evaluating(net), torch.no_grad():
        hook = target.register_forward_hook(add)
        try:
            run_on_shapes(net, examples(net, arguments), arguments)
        except Exception as error:  # what comes after the module may fail as it likes
            failure = error
        finally:
            hook.remove()
    if count:
        return count
    kind, inner = type(target).__name__, [name for name, _ in target.named_children()]
    if failure is not None:
        reason = text_of(failure).partition("\n")[0] or type(failure).__name__
        raise ValueError(
            f"until={until!r}: the network does not come as far as that module: {reason}"
        )
    advice = f"; name one of its own modules: {until}.{inner[-1]}" if inner else ""
    raise ValueError(
        f"until={until!r}: the network never calls that module, a {kind}, in evaluation{advice}"
    )
