"""A model of ONNX that ends early: with a value, or with what the nodes of a module give."""

from onnx import ModelProto, ValueInfoProto

from depthwise.graph.frontends.onnx.names import has_scopes, path_of, reads
from depthwise.graph.until import Computed, find_end


def end_model(model: ModelProto, until: str) -> ModelProto:
    """Return a model that ends with a value, a node or a module; raises as `find_end` does.

    Nodes that only served the rest are no part of it: what they do need not be known.
    """
    scoped = has_scopes(model.graph)
    named = {node.name: node.output[0] for node in model.graph.node if node.name}
    steps = [
        Computed(value, path_of(node, scoped), set(reads(node)))
        for node in model.graph.node
        for value in filter(None, node.output)
    ]
    returned = {output.name for output in model.graph.output}
    names = find_end(named.get(until, until), steps, returned)
    needed, kept = set(names), []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed |= set(reads(node))
            kept.append(node)
    short = ModelProto()
    short.CopyFrom(model)
    del short.graph.node[:], short.graph.output[:]
    short.graph.node.extend(reversed(kept))
    short.graph.output.extend(ValueInfoProto(name=name) for name in names)
    return short
