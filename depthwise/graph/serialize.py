"""A graph as one .safetensors file: the constants as its tensors, the rest as JSON in its header.

One file cannot be separated from its weights, is replaced at once, and is opened by whatever reads
safetensors: the weights bear the names of the state dict. The JSON is in the metadata, under KEY.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, get_args

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from depthwise import __version__
from depthwise.escaping import kind_of
from depthwise.files.atomic import WRITING, workspace
from depthwise.files.given import as_path
from depthwise.graph.calls import decode_call
from depthwise.graph.check import check
from depthwise.graph.graph import Constant, Graph, Node, Output, TensorType
from depthwise.graph.ops import Op, Opaque
from depthwise.graph.structure import Structure, decode_signature, encode_signature
from depthwise.graph.structure import encode as encode_structure
from depthwise.graph.typed_json import decode, encode, load

FORMAT = 1  # of the JSON: raised where a file of before could be read wrongly
KEY = "depthwise.graph"
SUFFIX = ".safetensors"

OPERATORS: dict[str, type] = {kind.__name__: kind for kind in get_args(Op)}


@dataclass(frozen=True)
class InputRecord:
    """An input of the network."""

    name: str
    type: TensorType


@dataclass(frozen=True)
class ConstantRecord:
    """A constant without its data, which is in the file if it is `stored`."""

    name: str
    type: TensorType
    trainable: bool
    sources: tuple[str, ...]
    stored: bool
    exact: float | None = None


@dataclass(frozen=True)
class NodeRecord:
    """A node without its operator's attributes, of which only `operator` knows what they are."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    type: TensorType
    path: str


def save_graph(graph: Graph, path: str | PathLike[str]) -> None:
    """Write a graph to a .safetensors file, whole or not at all.

    Args:
        graph: Constants without data (of the meta device) are noted without it.
        path: The file, whose name ends in .safetensors; one that is there is replaced.

    Raises:
        ValueError: A graph or a path that cannot be written.
    """
    if not isinstance(graph, Graph):
        raise ValueError(f"{kind_of(graph)} is no graph: give dw.open(...).graph")
    path = as_path(path, "the file of a graph")
    if path.suffix != SUFFIX:
        raise ValueError(f"{path}: a graph is saved to a file that ends in {SUFFIX}")
    tensors = {
        name: np.asarray(constant.data, order="C")
        for name, constant in graph.constants.items()
        if constant.data is not None
    }
    if "__metadata__" in tensors:
        raise ValueError("a constant is named __metadata__, which safetensors has for itself")
    text = json.dumps(describe(graph), allow_nan=False, separators=(",", ":"))
    with workspace(path.parent, WRITING) as folder:
        save_file(tensors, folder / path.name, {KEY: text})
        (folder / path.name).replace(path)


def open_graph(path: str | PathLike[str]) -> Graph:
    """Open a graph that `save_graph` wrote; nothing in the file is run.

    Raises:
        ValueError: The file is missing, damaged or of another version; the message says where.
    """
    path = as_path(path, "the file of a graph")
    if not path.is_file():
        raise ValueError(f"no file at {path}: give one that save_graph wrote")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
            if text is None:
                raise ValueError(
                    "there are tensors in it, and no graph: a checkpoint is given with the name of "
                    "its network"
                )
            return check(rebuild(load(text), set(file.keys()), file.get_tensor))
    except SafetensorError as error:
        raise ValueError(f"{path} is no .safetensors file, or a truncated one: {error}") from None
    except (ValueError, AssertionError) as error:
        raise ValueError(f"{path}: {error}") from None


def describe(graph: Graph) -> dict[str, Any]:
    """Return what JSON says of a graph: all but the data of its constants."""
    return {
        "format": FORMAT,
        "depthwise": __version__,
        "inputs": [encode(InputRecord(name, type)) for name, type in graph.inputs.items()],
        "constants": [
            encode(
                ConstantRecord(name, c.type, c.trainable, c.sources, c.data is not None, c.exact)
            )
            for name, c in graph.constants.items()
        ],
        "nodes": [_describe_node(node) for node in graph],
        "outputs": [encode(output) for output in graph.outputs],
        "signature": graph.signature and encode_signature(graph.signature),
    }


def rebuild(document: Any, stored: set[str], tensor: Callable[[str], np.ndarray]) -> Graph:
    """Return the graph that `describe` described; `stored` names what `tensor` can give.

    Raises ValueError for anything else.
    """
    found = document.get("format") if isinstance(document, dict) else None
    if type(found) is not int or found != FORMAT:  # true is no number, though it is 1 to Python
        writer = document.get("depthwise") if isinstance(document, dict) else None
        raise ValueError(
            f"the graph is in format {found!r}, written by depthwise {writer}: this version reads "
            f"format {FORMAT}; save it again with this version"
        )
    constants = _read_list(document, "constants", ConstantRecord)
    declared = {record.name for record in constants if record.stored}
    for name in sorted(stored - declared):
        raise ValueError(f"tensor {name!r} belongs to no constant of the graph")
    inputs = _read_list(document, "inputs", InputRecord)
    outputs = _read_list(document, "outputs", Output)
    _check_unique("values", [record.name for record in (*inputs, *constants)])
    _check_unique("outputs", [output.name for output in outputs])
    names = [[each.name for each in tensors] for tensors in (inputs, outputs)]
    signature = document.get("signature")  # which earlier versions did not write
    return Graph(
        {record.name: record.type for record in inputs},
        {record.name: _constant(record, stored, tensor) for record in constants},
        tuple(_node(value, f"nodes[{i}]") for i, value in enumerate(_list(document, "nodes"))),
        tuple(outputs),
        None if signature is None else decode_signature(signature, *names),
    )


def _describe_node(node: Node) -> dict[str, Any]:
    name = type(node.op).__name__
    if name not in OPERATORS:
        raise ValueError(
            f"{node.name} is {name}, an operator of the compiler's own: save the graph that it had "
            "before it was compiled"
        )
    record, op = NodeRecord(node.name, name, node.inputs, node.type, node.path), node.op
    if isinstance(op, Opaque) and op.call is not None:  # which no type hints tell how to read
        attributes = {**encode(replace(op, call=None)), "call": encode_structure(op.call)}
    else:
        attributes = encode(op)
    return {**encode(record), "attributes": attributes}


def _node(value: Any, where: str) -> Node:
    value = dict(value) if isinstance(value, dict) else value
    attributes = value.pop("attributes", {}) if isinstance(value, dict) else {}
    record: NodeRecord = decode(NodeRecord, value, where)
    where = f"{where}, {record.name!r}"
    if record.operator not in OPERATORS:
        raise ValueError(f"{where}: the operator {record.operator!r} is not known")
    call = None
    if record.operator == Opaque.__name__ and isinstance(attributes, dict):
        attributes = dict(attributes)
        call = attributes.pop("call", None)
    op = decode(OPERATORS[record.operator], attributes, f"{where}: {record.operator}")
    if call is not None:
        op = replace(op, call=_call(call, len(record.inputs), where))
    return Node(record.name, op, record.inputs, record.type, record.path)


def _call(value: Any, inputs: int, where: str) -> Structure:
    try:
        return decode_call(value, inputs)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _constant(
    record: ConstantRecord, stored: set[str], tensor: Callable[[str], np.ndarray]
) -> Constant:
    data = None
    if record.stored:
        if record.name not in stored:
            raise ValueError(f"constant {record.name!r} has no tensor in the file")
        data = tensor(record.name)
        found = TensorType(data.shape, data.dtype.name)
        if found != replace(record.type, dtype=record.type.element.storage.name):
            raise ValueError(f"constant {record.name!r} is {record.type}, its tensor {found}")
    return Constant(record.type, data, record.trainable, record.sources, record.exact)


def _list(document: dict[str, Any], key: str) -> list[Any]:
    found = document.get(key)
    if not isinstance(found, list):
        raise ValueError(f"the graph has no list of {key}")
    return found


def _read_list(document: dict[str, Any], key: str, kind: type) -> list[Any]:
    found = [decode(kind, value, f"{key}[{i}]") for i, value in enumerate(_list(document, key))]
    for i, record in enumerate(found):
        shape = getattr(record, "type", TensorType(())).shape
        if min(shape, default=0) < 0:
            raise ValueError(f"{key}[{i}] has the shape {shape}: 0 or more elements on each axis")
    return found


def _check_unique(what: str, names: list[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"two {what} are named {name!r}")
