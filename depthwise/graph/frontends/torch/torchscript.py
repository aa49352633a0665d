"""Scripted and traced modules (TorchScript), run by their graph so that torch.export sees inside.

PyTorch's own interpreter runs the graph, operator after operator, on the tensors that export gives
in the place of the module's own. So nothing of TorchScript's meaning is said a second time here.
"""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from depthwise.errors import Unsupported
from depthwise.escaping import in_line, text_of
from depthwise.graph.frontends.torch.failure import BY_VALUES
from depthwise.graph.frontends.torch.origin import path_of
from depthwise.graph.frontends.torch.preserve import evaluating

# operators of PyTorch's and torchvision's; two of them touch files
OPERATORS = re.compile(r"prim::(?!PythonOp|rpc)\w+|aten::(?!from_file$|save$)\w+|torchvision::\w+")


_interpret: Any = torch._C._jit_interpret_graph  # type: ignore[attr-defined]


@contextmanager
def without_torchscript(net: nn.Module) -> Iterator[nn.Module]:
    """Yield the network with ordinary modules in the place of scripted and traced ones.

    Within, these stand in the network itself. Raises Unsupported where there is none for a module.
    """
    found = scripted_modules(net)
    if not found:
        yield net
        return
    with evaluating(net):  # which puts the network's modules back
        plain = {id(module): _Interpreted(name, module) for name, module in found.items()}
        for parent in net.modules():
            if not isinstance(parent, torch.jit.ScriptModule):
                for name, child in parent._modules.items():
                    parent._modules[name] = plain.get(id(child), child)
        yield plain.get(id(net), net)


def scripted_modules(net: nn.Module) -> dict[str, torch.jit.ScriptModule]:
    """Return the scripted and traced modules by their paths, not those within others."""
    found: dict[str, torch.jit.ScriptModule] = {}
    for name, module in net.named_modules():
        inside = any(not outer or name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, torch.jit.ScriptModule) and not inside:
            found[name] = module
    return found


def check_operators(name: str, module: torch.jit.ScriptModule) -> None:
    """Raise Unsupported where a module, or one within, does what no operator of PyTorch's does."""
    where = f"module {name!r}" if name else "the network"
    try:
        graph: Any = module.inlined_graph
    except RuntimeError:
        raise Unsupported(f"{where} is in TorchScript and has no forward: give it one") from None
    for node in graph.findAllNodes("prim::SetAttr"):
        raise Unsupported(
            f"{where} is in TorchScript and assigns to its {in_line(node.s('name'))} when it "
            "runs: a library keeps nothing from call to call, make it an input and an output"
        )
    for kind in _kinds(graph):
        if not OPERATORS.fullmatch(kind):
            raise Unsupported(
                f"{where} is in TorchScript and calls {in_line(kind)}, which is neither PyTorch's "
                "nor torchvision's, or touches files: give the module that it was made from"
            )


def _kinds(block: Any) -> Iterator[str]:
    for node in block.nodes():
        yield node.kind()
        for inner in node.blocks():
            yield from _kinds(inner)


class _Interpreted(nn.Module):
    """A module in evaluation mode by its graph; its tensors have the names that they had there."""

    def __init__(self, name: str, module: torch.jit.ScriptModule):
        super().__init__()
        check_operators(name, module)
        self._graph, read = _lowered(name, module)
        self._owner = (module,)  # of functions that the graph points to, and does not keep
        self._signature = _signature(module)
        places = {}  # by which a tensor of several names is found under the first
        for path, tensor in module.state_dict(keep_vars=True).items():
            places.setdefault(id(tensor), _place(self, path, tensor))
        for index, tensor in enumerate(read):  # an attribute that is neither of these
            if id(tensor) not in places:
                places[id(tensor)] = _place(self, f"tensor_{index}", tensor)
        self._read = [places[id(tensor)] for tensor in read]
        self.train(module.training)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return what the module does."""
        arguments = self._signature.bind(*inputs, **named)
        arguments.apply_defaults()
        tensors = [getattr(owner, leaf) for owner, leaf in self._read]
        try:
            return _interpret(self._graph, (*arguments.args, *tensors))
        except RuntimeError as error:
            if isinstance(error.__cause__, BY_VALUES):
                raise error.__cause__ from None
            raise


def _lowered(name: str, module: torch.jit.ScriptModule) -> tuple[Any, list[torch.Tensor]]:
    """Return a module's graph that takes its tensors after its inputs, and these tensors."""
    graph: Any = module.inlined_graph.copy()
    try:
        read = _lift_tensors(graph, module._c)
        torch._C._jit_pass_dce(graph)
        graph.eraseInput(0)  # the module itself
    except (RuntimeError, TypeError) as error:
        where = f"module {name!r}" if name else "the network"
        reason = next(filter(None, map(str.strip, text_of(error).splitlines())), "")
        raise Unsupported(
            f"{where} is in TorchScript and holds more than modules and tensors "
            f"({in_line(reason)}): give the module that it was made from"
        ) from None
    return graph, read


def _lift_tensors(graph: Any, module: Any) -> list[torch.Tensor]:
    """Let a graph take as inputs the tensors that it reads of its module; return these.

    What else it reads, as None in the place of a bias, becomes a constant.
    """
    held = {next(graph.inputs()).debugName(): module}
    read: list[torch.Tensor] = []

    def lift(tensor: torch.Tensor) -> Any:
        read.append(tensor)
        value = graph.addInput()
        value.setType(torch._C.TensorType.get())
        return value

    for node in graph.findAllNodes("prim::GetAttr"):
        own = held[node.input().debugName()].getattr(node.s("name"))
        held[node.output().debugName()] = own
        if isinstance(own, torch._C.ScriptModule):
            continue
        graph.setInsertPoint(node)
        if isinstance(own, torch.Tensor):
            value = lift(own)
        elif isinstance(own, list) and any(isinstance(x, torch.Tensor) for x in own):
            listed = graph.create("prim::ListConstruct", list(map(lift, own)), 1)
            value = graph.insertNode(listed).output()  # as recurrent layers hold their weights
            value.setType(node.output().type())
        else:
            value = graph.insertConstant(own)
            value.setType(node.output().type())
        node.output().replaceAllUsesWith(value)
    return read


def _signature(module: torch.jit.ScriptModule) -> inspect.Signature:
    """Return what a module's forward takes."""
    _, *arguments = module._c._get_method("forward").schema.arguments
    return inspect.Signature(
        [
            inspect.Parameter(
                argument.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=argument.default_value
                if argument.has_default_value()
                else inspect.Parameter.empty,
            )
            for argument in arguments
        ]
    )


def _place(root: nn.Module, path: str, tensor: torch.Tensor) -> tuple[nn.Module, str]:
    """Keep a tensor under a path of the state dict; return the module that has it, and its name."""
    *outer, leaf = path.split(".")
    owner = root
    for name in outer:
        if name not in owner._modules:
            owner.add_module(name, nn.Module())
        owner = owner.get_submodule(name)
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(leaf, tensor)
    else:
        owner.register_buffer(leaf, tensor)
    return owner, leaf


def name_inner_modules(program: ExportedProgram, net: nn.Module) -> None:
    """Give operators within modules of TorchScript the path of the module whose tensors they read.

    The others keep the path of the outermost.
    """
    whole = {name for name, module in net.named_modules() if isinstance(module, _Interpreted)}
    kinds = InputKind.PARAMETER, InputKind.BUFFER
    targets = {
        spec.arg.name: str(spec.target)
        for spec in program.graph_signature.input_specs
        if spec.kind in kinds
    }
    for node in program.graph.nodes if whole else ():
        path = path_of(node)
        if node.op != "call_function" or path not in whole:
            continue
        read = [targets[n.name] for n in node.all_input_nodes if n.name in targets]
        owners = [target.rpartition(".")[0] for target in read]
        inner = next((o for o in owners if o.startswith(f"{path}." if path else "") and o), "")
        if inner:  # marked as a second call: no network can end with what such a module returns
            stack = node.meta.get("nn_module_stack") or {}
            node.meta["nn_module_stack"] = {**stack, inner: (f"{inner}@1", "TorchScript")}
