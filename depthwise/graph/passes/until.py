"""A graph that ends early."""

from dataclasses import replace

from depthwise.graph import Graph, Output
from depthwise.graph.passes.dead_code import remove_dead_code
from depthwise.graph.structure import usual_signature
from depthwise.graph.until import Computed, find_end


def end_graph(graph: Graph, until: str) -> Graph:
    """Return a graph that ends with the value, or the module, `until`; raises as `find_end` does.

    What only served the rest is no part of it.
    """
    steps = [Computed(node.name, node.path, node.inputs) for node in graph]
    names = find_end(until, steps, {output.value for output in graph.outputs})
    outputs = tuple(
        Output(str(index) if len(names) > 1 else "", name) for index, name in enumerate(names)
    )
    signature = graph.signature
    if signature is not None:
        usual = usual_signature(tuple(graph.inputs), [output.name for output in outputs])
        signature = replace(signature, returns=usual.returns)
    return remove_dead_code(replace(graph, outputs=outputs, signature=signature))
