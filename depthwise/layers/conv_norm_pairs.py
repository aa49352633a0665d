"""Which convolutions of a network are followed by a BatchNorm and by nothing else.

Each module's forward is traced by torch.fx with its children as black boxes, in both modes. What
cannot be traced hides what it does with its children, and those are left alone.
"""

import copy
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from torch import fx, nn

LEAVES = (nn.Conv2d, nn.BatchNorm2d)  # whatever a subclass has within


@dataclass(frozen=True)
class ConvNormPair:
    """The names of a convolution and of the BatchNorm that alone reads what it computes."""

    conv: str
    norm: str


def conv_norm_pairs(net: nn.Module) -> list[ConvNormPair]:
    """Return the pairs of `nn.Conv2d` and `nn.BatchNorm2d` (or a subclass), in the order of names.

    Both are called in one place, stand in one place, have no hooks and share no parameter.
    """
    traced = copy.deepcopy(net)  # tracing runs the network's own code, which may write to itself
    found = [set(_Calls(traced.train(mode)).pairs()) for mode in (True, False)]
    order = {name: index for index, (name, _) in enumerate(net.named_modules())}
    owners = Counter(
        id(part)
        for module in net.modules()
        for part in (*module._parameters.values(), *module._modules.values())
    )
    return sorted(
        (
            pair for pair in set.intersection(*found)
            if all(_is_alone(net.get_submodule(name), owners) for name in (pair.conv, pair.norm))
        ),
        key=lambda pair: order[pair.conv],
    )  # fmt: skip


def _is_alone(module: nn.Module, owners: Counter[int]) -> bool:
    hooks = (
        module._forward_hooks, module._forward_pre_hooks, module._backward_hooks,
        module._backward_pre_hooks,
    )  # fmt: skip
    shared = any(owners[id(part)] > 1 for part in (module, *module.parameters(recurse=False)))
    return not shared and not any(hooks)


class _Shallow(fx.Tracer):
    """Traces one module's own forward, and none of its children's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return True


class _Calls:
    """Who calls whom in a network: a graph for each module that has children."""

    def __init__(self, net: nn.Module):
        self._names = {module: name for name, module in net.named_modules()}
        self._modules = dict(net.named_modules(remove_duplicate=False))
        self._graphs: dict[str, fx.Graph] = {}
        self._hidden: list[str] = []
        for module, name in self._names.items():
            if (
                _is_leaf(module) or type(module).forward is nn.Module.forward
            ):  # it only holds others
                continue
            if (graph := _trace(module)) is not None:
                self._graphs[name] = graph
            else:
                self._hidden.append(name)
        self._callers: dict[str, int] = defaultdict(int)  # of each module, and of its parameters
        for name, graph in self._graphs.items():
            for node in graph.nodes:
                if node.op == "call_module":
                    self._callers[self._name(name, node)] += 1
                elif node.op == "get_attr":
                    owner = _join(name, str(node.target).rpartition(".")[0])
                    self._callers[self._names[self._modules[owner]]] += 2

    def pairs(self) -> Iterator[ConvNormPair]:
        """Yield the pairs that neither hidden code nor a second call parts."""
        for name, graph in self._graphs.items():
            for node in graph.nodes:
                reader = _only_reader(node)
                if node.op != "call_module" or reader is None:
                    continue
                conv = self._end(self._name(name, node), last=True)
                norm = self._end(self._name(name, reader), last=False)
                if (
                    conv is not None and type(self._modules[conv]) is nn.Conv2d
                    and norm is not None and isinstance(self._modules[norm], nn.BatchNorm2d)
                    and not any(_is_within(each, h) for h in self._hidden for each in (conv, norm))
                ):  # fmt: skip
                    yield ConvNormPair(conv, norm)

    def _end(self, name: str, last: bool) -> str | None:
        """Return the innermost module that a module's result comes from, or its input goes to."""
        if self._callers[name] != 1:
            return None
        if _is_leaf(self._modules[name]):
            return name
        if name not in self._graphs:
            return None
        nodes = list(self._graphs[name].nodes)
        end = _only_source(nodes[-1]) if last else _only_reader(nodes[0])
        return None if end is None else self._end(self._name(name, end), last)

    def _name(self, caller: str, node: fx.Node) -> str:
        """Return the one name of a module that a node calls, though it may have several."""
        return self._names[self._modules[_join(caller, str(node.target))]]


def _is_leaf(module: nn.Module) -> bool:
    return isinstance(module, LEAVES) or not list(module.children())


def _trace(module: nn.Module) -> fx.Graph | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _Shallow().trace(module)
        except Exception:  # the network's own code, which may fail in any way on what it is given
            return None


def _only_reader(node: fx.Node) -> fx.Node | None:
    """Return the module's call that takes a value, alone, where nothing else does."""
    if len(node.users) != 1:
        return None
    (reader,) = node.users
    plain = reader.op == "call_module" and reader.args == (node,) and not reader.kwargs
    return reader if plain else None


def _only_source(output: fx.Node) -> fx.Node | None:
    """Return the module's call that gives a result, where nothing else takes what it gives."""
    source = output.args[0]
    if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1:
        return None
    return source


def _join(*names: str) -> str:
    return ".".join(name for name in names if name)


def _is_within(name: str, module: str) -> bool:
    return not module or name.startswith(f"{module}.")
