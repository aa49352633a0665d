"""The graph as text, one line a node."""

import dataclasses
from typing import Any, cast

from depthwise.escaping import in_line
from depthwise.graph.calls import say_call
from depthwise.graph.graph import Graph, Node
from depthwise.graph.ops import Op
from depthwise.graph.structure import Nest


def show(graph: Graph) -> str:
    """Return the graph as aligned text: value, type, operator with attributes, inputs, module."""
    rows = [(in_line(name), str(type), "input", "", "") for name, type in graph.inputs.items()]
    rows += [_row(node) for node in graph]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]).rstrip()
        for row in rows
    ]
    returned = ", ".join(
        in_line(f"{o.name}={o.value}" if o.name else o.value) for o in graph.outputs
    )
    return "\n".join([*lines, f"return {returned}"])


def _row(node: Node) -> tuple[str, str, str, str, str]:
    return (
        in_line(node.name),
        str(node.type),
        in_line(describe(node.op)),
        ", ".join(in_line(_relative(name, node)) for name in node.inputs),
        f"# {in_line(node.path)}",
    )


def _relative(name: str, node: Node) -> str:
    """Return a weight's name as seen from its own module: .weight for stem.conv.weight."""
    return name.removeprefix(node.path) if node.path and "." in name else name


def describe(op: Op) -> str:
    """Return an operator and the attributes that are not at their usual value.

    One that says itself what it is, is asked.
    """
    if type(op).__str__ is not object.__str__:
        return str(op)
    usual = {
        "stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0), "groups": 1, "ceil": False,
        "parameters": (), "offset_groups": 1, "divisor": None,
        "align_corners": False, "value": 0.0, "step": 1, "before": None, "add": False,
        "after": None, "axis": None, "reason": "", "call": None, "result": None,
    }  # fmt: skip
    attributes = []
    for field in dataclasses.fields(op):
        value = getattr(op, field.name)
        if field.name in usual and value == usual[field.name]:
            continue
        if isinstance(value, Nest):
            attributes.append(f"{field.name}={say_call(value)}")
            continue
        nested = dataclasses.is_dataclass(value)
        attributes.append(_short(value) if nested else f"{field.name}={_short(value)}")
    return " ".join([type(op).__name__, *attributes])


def _short(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return f"({describe(cast(Op, value))})"
    if isinstance(value, tuple):
        same = len(set(value)) == 1
        return _short(value[0]) if same else "(" + ",".join(map(_short, value)) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)
