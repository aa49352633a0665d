"""An ONNX model as a file, with what does not fit into it beside it."""

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from depthwise import __version__
from depthwise.files.atomic import workspace
from depthwise.graph.exporters.onnx.writer import OnnxGraph
from depthwise.graph.graph import TensorType

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
    apart = sum(tensor.nbytes for tensor in written.tensors.values()) > LARGEST
    with workspace(path.parent, ".writing-") as folder:
        tensors = (
            write_apart(written.tensors, folder / beside.name)
            if apart
            else [numpy_helper.from_array(data, name) for name, data in written.tensors.items()]
        )
        new = folder / path.name
        new.write_bytes(make_model(written, tensors, path.stem).SerializeToString())
        onnx.checker.check_model(str(new), full_check=True)
        if apart:
            path.unlink(missing_ok=True)  # it may be about to lose its own tensors
            (folder / beside.name).replace(beside)
        new.replace(path)


def make_model(written: OnnxGraph, tensors: list[TensorProto], name: str) -> ModelProto:
    """Return the model, in which the type of every value of ours is noted."""
    graph, values = written.graph, written.values
    model_graph = helper.make_graph(
        written.nodes,
        name,
        inputs=[describe(values[name], type_) for name, type_ in graph.inputs.items()],
        outputs=[
            describe(name, graph.type(output.value))
            for name, output in zip(written.outputs, graph.outputs, strict=True)
        ],
        initializer=tensors,
        value_info=[
            describe(values[node.name], node.type)
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


def describe(name: str, type_: TensorType) -> ValueInfoProto:
    """Return ONNX's words for a value's name, element type and shape."""
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(type_.dtype))
    return helper.make_tensor_value_info(name, dtype, type_.shape)


def write_apart(tensors: dict[str, np.ndarray], path: Path) -> list[TensorProto]:
    """Write tensors to a file one after the other; return what tells where each one is."""
    described = []
    with path.open("wb") as file:
        for name, data in tensors.items():
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            dtype = helper.np_dtype_to_tensor_dtype(data.dtype)
            tensor = TensorProto(name=name, data_type=dtype, dims=data.shape)
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": path.name, "offset": file.tell(), "length": data.nbytes}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            file.write(np.ascontiguousarray(data).data)
            described.append(tensor)
    return described
