"""An ONNX file, looked through before anything is made of it.

Weights that a file keeps outside of itself are read from the file's own folder and nowhere else.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, inliner, load_model
from onnx.external_data_helper import (
    load_external_data_for_tensor,
    uses_external_data,
)

from depthwise.errors import Unsupported
from depthwise.escaping import in_line
from depthwise.graph.frontends.onnx.known import STANDARD

OLDEST, NEWEST = 7, 28  # opsets that the rules are written for


def load(path: Path) -> ModelProto:
    """Return the model in a file, with its external data, and its local functions inlined.

    Raises ValueError for a file that is missing, damaged, of an unknown opset, or whose external
    data are missing; Unsupported for what no network of fixed steps holds.
    """
    if not path.is_file():
        raise ValueError(f"no file at {path}: give the path of an ONNX model")
    try:
        model = load_model(path, format="protobuf", load_external_data=False)
    except Exception:  # damaged bytes make the parser raise nearly anything
        model = ModelProto()
    if not (model.ir_version and model.opset_import and model.graph.output):
        raise ValueError(f"{path} is no ONNX model, or a truncated one")
    if not _is_text(model):
        raise ValueError(f"{path} is damaged: a name in it is no text (UTF-8); export it again")
    opset_of(model, path)
    for tensor in _tensors(model):
        if uses_external_data(tensor):
            _load_external(tensor, path)
    return inliner.inline_local_functions(model) if model.functions else model


def opset_of(model: ModelProto, path: Path) -> int:
    """Return the version of the operators that a model is written in."""
    versions = [o.version for o in model.opset_import if o.domain in STANDARD]
    if not versions:
        raise ValueError(f"{path} names no opset of the domain ai.onnx: export it again")
    opset = versions[0]
    if opset > NEWEST:
        raise ValueError(
            f"{path} is of opset {opset}, newer than {NEWEST}, the newest that is known here: "
            f"export it with opset_version={NEWEST} or older"
        )
    if opset < OLDEST:
        raise ValueError(
            f"{path} is of opset {opset}; opsets {OLDEST} to {NEWEST} are read: export it again, "
            f"or convert it with onnx.version_converter.convert_version(model, {NEWEST})"
        )
    return opset


def _is_text(message: Message) -> bool:
    """Tell whether all that should be text is: protobuf gives what is no UTF-8 as bytes."""
    for field, value in message.ListFields():
        values: Any = [value] if isinstance(value, str | bytes | Message) else value
        if field.type == field.TYPE_STRING and not all(isinstance(text, str) for text in values):
            return False
        if field.type == field.TYPE_MESSAGE and not all(map(_is_text, values)):
            return False
    return True


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor that a model holds, those in attributes and subgraphs too."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            for attribute in node.attribute:
                yield from _attribute_tensors(attribute)


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    if graph.sparse_initializer:
        name = in_line(graph.sparse_initializer[0].values.name)
        raise Unsupported(f"initializer {name} is sparse: store it as a dense tensor")
    for node in graph.node:
        for attribute in node.attribute:
            yield from _attribute_tensors(attribute)


def _attribute_tensors(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.type == AttributeProto.TENSOR:
        yield attribute.t
    yield from attribute.tensors
    for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
        yield from _graph_tensors(graph)


def _load_external(tensor: TensorProto, path: Path) -> None:
    """Read a tensor's data from the file that it names, within the model's own folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, folder = entries.get("location", ""), path.parent.resolve()
    where = f"{path} keeps the data of {in_line(tensor.name)} in {in_line(location)!r}"
    file = (folder / location).resolve()
    if not location or not file.is_relative_to(folder):
        raise ValueError(
            f"{where}, outside of its own folder, where nothing is read: move that file beside the "
            "model and save it with that location"
        )
    if not file.is_file():
        raise ValueError(f"{where}, and there is no such file: put it beside the model")
    size = file.stat().st_size
    begin, length = (entries.get(key) or "0" for key in ("offset", "length"))
    whole = begin.isdecimal() and length.isdecimal()
    if not whole or int(begin) + int(length) > size:
        raise ValueError(
            f"{where}, {in_line(length)} bytes from {in_line(begin)} on, and that file has {size}: "
            "it is truncated, or of another model"
        )
    try:
        load_external_data_for_tensor(tensor, str(folder))
    except Exception as error:
        raise ValueError(f"{where}, which cannot be read: {error}") from None
