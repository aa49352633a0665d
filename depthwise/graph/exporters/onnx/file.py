"""An ONNX model as a file, with what does not fit into it beside it."""

from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from depthwise import __version__
from depthwise.files.atomic import WRITING, workspace
from depthwise.graph.exporters.onnx.writer import OnnxGraph
from depthwise.graph.frontends.onnx.element_types import element_type
from depthwise.graph.graph import Constant, TensorType

# The first opset in which each operator of ours has a form (DeformConv 19, Gelu 20 and
# GroupNormalization 21), and the version of the file's own format that came with it: onnx 1.16.
OPSET, IR_VERSION = 21, 10

LARGEST = 2**31 - 2**24  # bytes of tensors in the file itself: protobuf's limit, less the nodes
ALIGNMENT = 4096  # of tensors in a file of their own, so that they can be mapped


def write_model(written: OnnxGraph, path: Path) -> None:
    """Write a model, whole or not at all, once onnx.checker has found it sound.

    Over 2 GB of tensors go to a file beside it, which is named after it: net.onnx.data.
    """
    beside = path.with_name(f"{path.name}.data")
    apart = sum(tensor.type.bytes for tensor in written.tensors.values()) > LARGEST
    model = make_model(written, path.stem)
    with workspace(path.parent, WRITING) as folder:
        if apart:
            write_apart(model.graph, written.tensors, folder / beside.name)
        else:
            for name, tensor in written.tensors.items():
                describe_tensor(model.graph, name, tensor).raw_data = data_of(tensor).tobytes()
        new = folder / path.name
        new.write_bytes(model.SerializeToString())
        del model  # which may hold as much as fits into a file
        onnx.checker.check_model(str(new), full_check=True)
        if apart:
            path.unlink(missing_ok=True)  # it may be about to lose its own tensors
            (folder / beside.name).replace(beside)
        new.replace(path)


def make_model(written: OnnxGraph, name: str) -> ModelProto:
    """Return the model without its tensors; the type of every value of ours is noted."""
    graph, values = written.graph, written.values
    model_graph = helper.make_graph(
        written.nodes,
        name,
        inputs=[describe_value(values[name], type_) for name, type_ in graph.inputs.items()],
        outputs=[
            describe_value(name, graph.type(output.value))
            for name, output in zip(written.outputs, graph.outputs, strict=True)
        ],
        value_info=[
            describe_value(values[node.name], node.type)
            for node in graph
            if values[node.name] not in written.outputs
        ],
    )
    return helper.make_model(
        model_graph,
        producer_name="depthwise",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


def describe_value(name: str, type_: TensorType) -> ValueInfoProto:
    """Return ONNX's words for a value's name, element type and shape."""
    return helper.make_tensor_value_info(name, element_type(type_.dtype), type_.shape)


def describe_tensor(graph: GraphProto, name: str, tensor: Constant) -> TensorProto:
    """Add a tensor to `graph`, so far without its data."""
    type_ = tensor.type
    return graph.initializer.add(name=name, data_type=element_type(type_.dtype), dims=type_.shape)


def data_of(tensor: Constant) -> np.ndarray:
    """Return the elements in the order and with the bytes of ONNX's files."""
    data = np.asarray(tensor.data, order="C")
    return data.astype(data.dtype.newbyteorder("<"), copy=False)


def write_apart(graph: GraphProto, tensors: dict[str, Constant], path: Path) -> None:
    """Write tensors to a file one after the other; `graph` says where each one is."""
    with path.open("wb") as file:
        for name, tensor in tensors.items():
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            described = describe_tensor(graph, name, tensor)
            described.data_location = TensorProto.EXTERNAL
            place = {"location": path.name, "offset": file.tell(), "length": tensor.type.bytes}
            for key, value in place.items():
                described.external_data.add(key=key, value=str(value))
            data_of(tensor).tofile(file)
