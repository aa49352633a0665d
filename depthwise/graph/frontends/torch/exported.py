"""An exported program made ready to run in PyTorch, without trust in its names."""

from dataclasses import replace

from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature


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
    return ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=renamed,
        state_dict={names[name]: tensor for name, tensor in program.state_dict.items()},
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants={names[name]: tensor for name, tensor in program.constants.items()},
        verifiers=program.verifiers,
    )
