"""Programs that write into parts of tensors, as programs that write nowhere.

`y[:, :2] = z` is an operator of its own there, which returns all of y: aten.slice_scatter. It costs
other forms of what people write, and time, so that only programs that need it are rewritten.
"""

import warnings

from torch import fx
from torch.export import ExportedProgram

from depthwise.graph.frontends.torch.failure import quiet
from depthwise.graph.frontends.torch.importer import Importer
from depthwise.graph.frontends.torch.memory import WrittenView
from depthwise.graph.frontends.torch.purity import written


def functional(program: ExportedProgram) -> ExportedProgram:
    """Return a program of which a graph can be made: the same one, unless it writes into a part."""
    if not any(written(node) for node in _nodes(program)):
        return program
    try:
        Importer(program)
    except WrittenView as error:
        return rewritten(program, error)
    return program


def rewritten(program: ExportedProgram, reason: WrittenView) -> ExportedProgram:
    """Return a program that writes nowhere. Raises `reason` where PyTorch cannot make it."""
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return program.run_decompositions({})
    except Exception as error:
        raise reason from error


def _nodes(program: ExportedProgram) -> list[fx.Node]:
    """Return the nodes of a program and of the regions in it."""
    modules = (m for m in program.graph_module.modules() if isinstance(m, fx.GraphModule))
    return [node for module in modules for node in module.graph.nodes]
