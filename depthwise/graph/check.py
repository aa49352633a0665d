"""What every graph must satisfy; run between all passes."""

import numpy as np

from depthwise.graph.attributes import check_attributes
from depthwise.graph.graph import Graph, Node, TensorType
from depthwise.graph.infer import infer
from depthwise.graph.ops import Opaque


def check(graph: Graph) -> Graph:
    """Return the graph, or raise AssertionError naming the first node that breaks a rule.

    Names are unique; a value is computed before it is read; each type is the one its operator
    gives, and has elements; constants have the type of their data; outputs exist.
    """
    known: dict[str, TensorType] = dict(graph.inputs)
    for name, constant in graph.constants.items():
        assert name not in known, f"two values are named {name}"
        if constant.data is not None:
            _check_data(name, constant.type, constant.data)
        known[name] = constant.type
    for node in graph:
        assert node.name not in known, f"two values are named {node.name}"
        missing = [name for name in node.inputs if name not in known]
        assert not missing, f"{node.name} reads {missing[0]}, which is not computed before it"
        _check_type(node, [known[name] for name in node.inputs])
        assert min(node.type.shape, default=1) > 0, (
            f"{node.name} has the shape {node.type.shape}, no elements"
        )
        known[node.name] = node.type
    for output in graph.outputs:
        assert output.value in known, (
            f"output {output.name!r} is {output.value}, which is not there"
        )
    return graph


def _check_data(name: str, type: TensorType, data: np.ndarray) -> None:
    shape, stored = data.shape, type.element.storage
    assert shape == type.shape, f"{name}: data {shape}, type {type}"
    assert data.dtype == stored, f"{name}: data in {data.dtype}, type {type} is kept in {stored}"


def _check_type(node: Node, inputs: list[TensorType]) -> None:
    if isinstance(node.op, Opaque):
        return
    where = f"{node.name} at {node.path or 'the top'}"
    shapes = [type.shape for type in inputs]
    try:
        check_attributes(node.op, *shapes)
        found = infer(node.op, *inputs)
    except (ValueError, OverflowError) as error:
        raise AssertionError(f"{where}: {error}") from error
    except (TypeError, IndexError) as error:  # too many inputs or too few, or with too few axes
        operator = type(node.op).__name__
        raise AssertionError(f"{where}: {operator} does not take inputs of {shapes}") from error
    given = node.type
    assert found.shape == given.shape, f"{where}: {node.op} gives {found.shape}, not {given.shape}"
    assert found.dtype == given.dtype, f"{where}: {node.op} gives {found.dtype}, not {given.dtype}"
