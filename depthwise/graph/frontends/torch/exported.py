"""An exported program made ready to run in PyTorch, or cut short, without trust in its names."""

from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.exported_program import ModuleCallEntry
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.utils import _pytree as pytree

from depthwise.graph.frontends.torch.origin import path_of
from depthwise.graph.until import Computed, find_end


def as_module(program: ExportedProgram) -> fx.GraphModule:
    """Return a module that computes what the program does, with the same tensors."""
    return renamed(program).module(check_guards=False)


def renamed(program: ExportedProgram) -> ExportedProgram:
    """Return the program with names of ours for its tensors; its nodes keep theirs.

    PyTorch makes Python code of a program, in which the names of tensors stand as they are: there
    a quote ends a string, and a word of Python is one.
    """
    held = {**program.state_dict, **program.constants}
    names = {name: f"tensor_{index}" for index, name in enumerate(held)}
    signature = program.graph_signature
    renamed = ExportGraphSignature(
        [replace(spec, target=names.get(spec.target or "", spec.target))
         for spec in signature.input_specs],
        [replace(spec, target=names.get(spec.target or "", spec.target))
         for spec in signature.output_specs],
    )  # fmt: skip
    return _changed(
        program,
        graph_signature=renamed,
        state_dict={names[name]: tensor for name, tensor in program.state_dict.items()},
        constants={names[name]: tensor for name, tensor in program.constants.items()},
    )


def end_program(program: ExportedProgram, until: str) -> ExportedProgram:
    """Return a program that ends with a node, or with what the operators of a module return.

    Raises ValueError for a name that is neither.
    """
    nodes = [n for n in program.graph.nodes if n.op == "call_function"]
    steps = [
        Computed(node.name, path_of(node), {read.name for read in node.all_input_nodes})
        for node in nodes
        if isinstance(node.meta.get("val"), torch.Tensor)
    ]
    returned = {read.name for read in program.graph.output_node().all_input_nodes}
    names = find_end(until, steps, returned)
    graph, results = _copy_until(program.graph, names)
    arguments: list[Any] = [TensorArgument(result.name) for result in results]
    specs = [OutputSpec(OutputKind.USER_OUTPUT, argument, None) for argument in arguments]
    whole, *_ = program.module_call_graph
    assert whole.signature is not None
    structure = pytree.tree_structure(tuple(results) if len(results) > 1 else 0)
    call = replace(whole.signature, outputs=arguments, out_spec=structure)
    return without_unread(
        _changed(
            program,
            root=fx.GraphModule(program.graph_module, graph),
            graph=graph,
            graph_signature=ExportGraphSignature(program.graph_signature.input_specs, specs),
            module_call_graph=[ModuleCallEntry("", call)],
        )
    )


def without_unread(program: ExportedProgram) -> ExportedProgram:
    """Return the program without the operators and the weights that no output depends on."""
    graph, known = fx.Graph(), {}
    for node in program.graph.nodes:
        known[node] = _copied(graph, node, known)
    graph.eliminate_dead_code()
    read = {node.name for node in graph.nodes if node.users}
    signature = program.graph_signature

    def is_kept(spec: InputSpec) -> bool:
        return spec.kind == InputKind.USER_INPUT or spec.arg.name in read

    for node in graph.find_nodes(op="placeholder"):
        spec = next(spec for spec in signature.input_specs if spec.arg.name == node.name)
        if not is_kept(spec):
            graph.erase_node(node)
    specs = list(filter(is_kept, signature.input_specs))
    targets = {spec.target for spec in specs}
    return _changed(
        program,
        root=fx.GraphModule(program.graph_module, graph),
        graph=graph,
        graph_signature=ExportGraphSignature(specs, signature.output_specs),
        state_dict={k: v for k, v in program.state_dict.items() if k in targets},
        constants={k: v for k, v in program.constants.items() if k in targets},
    )


def _copy_until(graph: fx.Graph, names: Collection[str]) -> tuple[fx.Graph, list[fx.Node]]:
    """Return a copy that ends with the last of some nodes and returns copies of their values.

    Copies, since a later operator may write into one of the values.
    """
    short, known, results = fx.Graph(), {}, []
    for node in graph.nodes:
        if len(results) == len(names):
            break
        known[node] = _copied(short, node, known)
        if node.name in names:
            results.append(short.call_function(torch.ops.aten.clone.default, (known[node],)))
            results[-1].meta = copy(node.meta)
    short.output(tuple(results))
    return short, results


def _copied(graph: fx.Graph, node: fx.Node, known: Mapping[fx.Node, fx.Node]) -> fx.Node:
    """Append a copy of a node that bears its name, which a graph would number: input, say."""
    copied = graph.node_copy(node, known.__getitem__)
    copied.name = node.name
    return copied


def _changed(program: ExportedProgram, **changes: Any) -> ExportedProgram:
    """Return a program with some of its parts replaced."""
    parts = {
        "root": program.graph_module,
        "graph": program.graph,
        "graph_signature": program.graph_signature,
        "state_dict": program.state_dict,
        "range_constraints": program.range_constraints,
        "module_call_graph": program.module_call_graph,
        "example_inputs": program.example_inputs,
        "constants": program.constants,
        "verifiers": program.verifiers,
    }
    return ExportedProgram(**{**parts, **changes})
