"""What ONNX itself says of a node: whether it is as its operator is defined, and what it gives.

Its inference knows the attributes and operands of every operator, and finds the types of results
from those of the operands. It stands beside the rules: what it refuses is refused, and what it says
of a result is compared with what a rule made.
"""

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto, TypeProto, defs, numpy_helper, shape_inference
from onnx.checker import ValidationError
from onnx.defs import OpSchema
from onnx.helper import (
    make_opsetid,
    make_tensor_type_proto,
    np_dtype_to_tensor_dtype,
    tensor_dtype_to_np_dtype,
)

from depthwise.escaping import in_line
from depthwise.graph.dtypes import DTYPES
from depthwise.graph.frontends.onnx.element_types import element_type
from depthwise.graph.frontends.onnx.known import CONTROL, STANDARD
from depthwise.graph.graph import Shape, TensorType
from depthwise.memory import available_bytes

# Opsets whose definitions say what exporters and runtimes have always meant: a Resize may be
# without a region, and a window of pooling that would start beyond the image is left out.
AS_SINCE = {"Resize": 13, "MaxPool": 22, "AveragePool": 22, "LpPool": 22}

UNBOUNDED = (2**31 - 1, 2**63 - 1)  # a stop of a Slice that means the end, in either direction

FEW = 1024  # elements of an operand that may say sizes, axes or scales

Types = dict[str, TensorType]


def types_of(node: NodeProto, opset: int, values: Types, known: Mapping[str, np.ndarray]) -> Types:
    """Return the types of a node's outputs, by name, as far as those of its operands tell them.

    `values` are the types of the operands that the network computes, `known` the others.

    Raises ValueError for a node that is not as its operator is defined, or whose operands do not
    fit it.
    """
    schema = _schema(node, opset)
    if schema is None:
        return {}
    types = {
        name: make_tensor_type_proto(element_type(type_.dtype), list(type_.shape))
        for name, type_ in values.items()
    }
    types |= {name: _array_type(data) for name, data in known.items()}
    few = {n: numpy_helper.from_array(a, n) for n, a in known.items() if a.size <= FEW}
    try:
        found = shape_inference.infer_node_outputs(
            schema, node, types, few, opset_imports=[make_opsetid("", opset)]
        )
    except (ValidationError, shape_inference.InferenceError) as error:
        reason = str(error).partition("\n")[0].removeprefix("[ShapeInferenceError] ")
        raise ValueError(f"it is not as ONNX defines it ({reason})") from None
    if _is_misjudged(node, known):
        return {}
    given = {name: _tensor_type(found.get(name)) for name in node.output if name}
    return {name: type_ for name, type_ in given.items() if type_}


def check_type(name: str, wanted: TensorType, shape: Shape, dtype: str) -> None:
    """Raise ValueError where the shape and the element type found are not what ONNX says."""
    if (shape, dtype) != (wanted.shape, wanted.dtype):
        raise ValueError(
            f"its result {in_line(name)} would be {dtype} {shape}, where ONNX defines it as "
            f"{wanted.dtype} {wanted.shape}"
        )


def check_memory(types: Types) -> None:
    """Raise ValueError where results that are computed now do not fit this machine."""
    needed, memory = sum(type_.bytes for type_ in types.values()), available_bytes()
    if needed > memory:
        raise ValueError(
            f"it makes {needed / 1e9:,.1f} GB of what is known beforehand, and this machine has "
            f"{memory / 1e9:,.1f} GB of memory left"
        )


def _is_misjudged(node: NodeProto, known: Mapping[str, np.ndarray]) -> bool:
    """Tell whether inference gives another size than the reference and ONNX Runtime compute.

    It adds output_padding to a size that is the input's times the stride, and takes a slice
    backwards that has no bound for an empty one.
    """
    if node.op_type == "ConvTranspose":
        given = {attribute.name: attribute for attribute in node.attribute}
        same = "auto_pad" in given and given["auto_pad"].s.startswith(b"SAME")
        return same and "output_padding" in given
    if node.op_type == "Slice" and len(node.input) == 5:
        stops, steps = (known.get(node.input[i], np.zeros(0)) for i in (2, 4))
        return bool(np.any(np.isin(stops, UNBOUNDED)) and np.any(steps < 0))
    return False


def _schema(node: NodeProto, opset: int) -> OpSchema | None:
    """Return the definition that a node is held to, None for what ONNX cannot judge.

    That are operators of other domains, those that hold nodes of their own, and those that are
    written in a form that ONNX has withdrawn.
    """
    if node.domain not in STANDARD or node.op_type in CONTROL:
        return None
    if opset >= 11:
        opset = max(opset, AS_SINCE.get(node.op_type, 0))
    if not defs.has(node.op_type, max_inclusive_version=opset):
        return None
    schema = defs.get_schema(node.op_type, opset)
    return None if schema.deprecated else schema


def _array_type(data: np.ndarray) -> TypeProto:
    return make_tensor_type_proto(np_dtype_to_tensor_dtype(data.dtype), list(data.shape))


def _tensor_type(proto: TypeProto | None) -> TensorType | None:
    """Return a type whose sizes are all known, else None."""
    if proto is None or not proto.tensor_type.HasField("shape"):
        return None
    sizes = proto.tensor_type.shape.dim
    dtype = str(tensor_dtype_to_np_dtype(proto.tensor_type.elem_type))
    whole = all(size.HasField("dim_value") for size in sizes)
    return (
        TensorType(tuple(d.dim_value for d in sizes), dtype) if whole and dtype in DTYPES else None
    )
