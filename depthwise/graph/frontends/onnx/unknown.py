"""Nodes that the graph has no operator for: their types, by ONNX's own inference."""

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto, TensorProto, TypeProto, defs, numpy_helper, shape_inference
from onnx.helper import (
    make_opsetid,
    make_tensor_type_proto,
    np_dtype_to_tensor_dtype,
    tensor_dtype_to_np_dtype,
)

from depthwise.graph.dtypes import DTYPES
from depthwise.graph.frontends.onnx.known import CONTROL
from depthwise.graph.graph import TensorType


def types_of(
    node: NodeProto, opset: int, values: Mapping[str, TensorType], known: Mapping[str, np.ndarray]
) -> list[TensorType] | None:
    """Return the type of each output, None where they depend on more than the operands' types."""
    if node.op_type in CONTROL or not defs.has(node.op_type, max_inclusive_version=opset):
        return None
    schema = defs.get_schema(node.op_type, opset)
    arrays = {name: numpy_helper.from_array(np.asarray(data), name) for name, data in known.items()}
    types = {name: _type_proto(type_) for name, type_ in values.items()}
    types |= {name: make_tensor_type_proto(a.data_type, list(a.dims)) for name, a in arrays.items()}
    try:
        found = shape_inference.infer_node_outputs(
            schema, node, types, arrays, opset_imports=[make_opsetid("", opset)]
        )
    except Exception:  # operands that do not fit it, too
        return None
    given = [_tensor_type(found.get(name)) for name in node.output if name]
    return [type_ for type_ in given if type_] if all(given) else None


def _type_proto(type_: TensorType) -> TypeProto:
    dtype = TensorProto.BFLOAT16
    if type_.dtype != "bfloat16":
        dtype = np_dtype_to_tensor_dtype(np.dtype(type_.dtype))
    return make_tensor_type_proto(dtype, list(type_.shape))


def _tensor_type(proto: TypeProto | None) -> TensorType | None:
    """Return a type whose sizes are all known, and are not 0; else None."""
    if proto is None or not proto.tensor_type.HasField("shape"):
        return None
    shape = tuple(d.dim_value for d in proto.tensor_type.shape.dim)
    dtype = str(tensor_dtype_to_np_dtype(proto.tensor_type.elem_type))
    return TensorType(shape, dtype) if all(shape) and dtype in DTYPES else None
