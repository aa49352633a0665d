"""Which module a node of ONNX belongs to, as far as its exporter has told."""

import ast

from onnx import GraphProto, NodeProto

SCOPES = "pkg.torch.onnx.name_scopes"  # torch.onnx.export(dynamo=True): ['', 'layer1', ..., 'node']


def has_scopes(graph: GraphProto) -> bool:
    """Tell whether torch has written modules as metadata, which nodes of its rewrites then lack."""
    return any(entry.key == SCOPES for node in graph.node for entry in node.metadata_props)


def path_of(node: NodeProto, scoped: bool) -> str:
    """Return a module's path with dots, as in features.0.conv, for the module that a node is of.

    torch writes the path of its modules as metadata (the file is `scoped`), or, as TensorFlow does,
    into the node's name: /features/features.0/conv/Conv. Any other name is the path of its own. A
    module that is called again is numbered in names: /conv/relu_1/Relu.
    """
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            return _innermost(entry.value)
    if scoped:
        return ""
    if "/" in node.name:
        return _joined([part for part in node.name.split("/")[:-1] if part])
    return node.name or next(name for name in node.output if name)


def _innermost(text: str) -> str:
    """Return the last module of torch's list of scopes, which ends in the operator itself."""
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    known = isinstance(scopes, list) and len(scopes) > 1 and isinstance(scopes[-2], str)
    return scopes[-2] if known else ""


def _joined(parts: list[str]) -> str:
    """Join the parts of a name; one that repeats what stands before it takes its place."""
    path: list[str] = []
    for part in parts:
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    return ".".join(path)
