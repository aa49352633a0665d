"""The ONNX project's own operator cases as files, read by the public importer."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper, save

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a dependency's making
    from onnx.backend.test.loader import load_model_tests

from depthwise.errors import Unsupported
from depthwise.graph import Graph, ops, supported
from depthwise.graph.frontends.onnx import read_onnx

# operands that a library knows when it is made; the cases give them as inputs, as all others
FIXED = {
    "BatchNormalization": (1, 2, 3, 4), "Clip": (1, 2), "Conv": (1, 2), "ConvTranspose": (1, 2),
    "Compress": (1,),
    "DeformConv": (1, 3), "Dropout": (1, 2), "Gemm": (1, 2), "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2), "LayerNormalization": (1, 2), "PRelu": (1,), "Pad": (1, 2, 3),
    "Pow": (1,), "Resize": (1, 2), "RMSNormalization": (1,), "Trilu": (1,), "Upsample": (1,),
    "Where": (0,), "ReduceMax": (1,), "ReduceMin": (1,), "CumSum": (1,), "CumProd": (1,),
    "TopK": (1,), "LSTM": (1, 2, 3, 4), "GRU": (1, 2, 3, 4), "RNN": (1, 2, 3, 4),
    "AffineGrid": (1,), "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8), "QLinearMatMul": (1, 2, 3, 4, 5, 6, 7),
}  # fmt: skip


REAL = (np.float32, np.float64)
OF_INTEGERS = {"DequantizeLinear", "QLinearConv", "QLinearMatMul"}
IN_FLOAT32 = {"Einsum", "EyeLike", "Pad", "ReduceLogSumExp", "Trilu"}  # cases have other types


@dataclass(frozen=True)
class Converted:
    """A model as a graph, and the arrays that it is run on."""

    graph: Graph
    inputs: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Outcomes:
    """What became of each case: converted with the outputs to expect, or why it is not compiled."""

    operators: dict[str, str]
    converted: dict[str, Converted]  # of any types of elements
    expected: dict[str, list[np.ndarray]]
    refused: dict[str, str]  # not converted, or not to be compiled

    @property
    def compiled(self) -> dict[str, Converted]:
        """The cases that a library can compute."""
        return {name: c for name, c in self.converted.items() if name not in self.refused}


def read_cases(folder: Path, operators: set[str]) -> Outcomes:
    """Read every case that has only the given operators, from files in `folder`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases' own arithmetic overflows on purpose
        cases = load_model_tests(kind="node")
    found = Outcomes({}, {}, {}, {})
    for case in cases:
        assert case.model
        assert case.data_sets
        names = [node.op_type for node in case.model.graph.node]
        if not set(names) <= operators:
            continue
        found.operators[case.name] = " ".join(names)
        inputs, outputs = (list(map(as_array, each)) for each in case.data_sets[0])
        try:
            converted = convert(case.model, list(inputs), folder / "case.onnx")
            found.expected[case.name] = list(outputs)
            found.converted[case.name] = converted
            supported(converted.graph)
        except (Unsupported, ValueError) as error:
            found.refused[case.name] = str(error)
    return found


def as_array(value: Any) -> Any:
    """Return a value of a case as NumPy has it; bfloat16, which it lacks, in float32."""
    array = numpy_helper.to_array(value) if isinstance(value, TensorProto) else value
    return array.astype(np.float32) if str(getattr(array, "dtype", "")) == "bfloat16" else array


def convert(model: ModelProto, inputs: list[np.ndarray], path: Path) -> Converted:
    """Return a model whose fixed operands are made initialisers, read back from a file."""
    arrays = dict(zip((i.name for i in model.graph.input), inputs, strict=True))
    if {node.op_type for node in model.graph.node} <= IN_FLOAT32:
        model, arrays = in_float32(model, arrays)
    fixed = {node.input[i] for node in model.graph.node for i in FIXED.get(node.op_type, ())
             if i < len(node.input)}  # fmt: skip
    integers = {node.op_type for node in model.graph.node} & OF_INTEGERS
    if not integers and any(getattr(a, "dtype", None) in REAL for a in arrays.values()):
        fixed |= {name for name, array in arrays.items() if np.asarray(array).dtype.kind == "i"}
    baked = ModelProto()
    baked.CopyFrom(model)
    del baked.graph.input[:]
    for value in model.graph.input:
        if value.name in fixed:
            tensor = numpy_helper.from_array(np.asarray(arrays[value.name]), value.name)
            baked.graph.initializer.append(tensor)
        else:
            baked.graph.input.append(value)
    save(baked, path)
    shapes = {value.name: np.shape(arrays[value.name]) for value in baked.graph.input
              if isinstance(arrays[value.name], np.ndarray)}  # fmt: skip
    graph = read_onnx(path, shapes)
    unknown = next((n.op.reason for n in graph if isinstance(n.op, ops.Opaque)), "")
    if unknown:
        raise Unsupported(unknown)
    return Converted(graph, tuple(arrays[name] for name in graph.inputs))


def in_float32(
    model: ModelProto, arrays: dict[str, np.ndarray]
) -> tuple[ModelProto, dict[str, np.ndarray]]:
    """Return a case that takes, computes and returns float32 where it had another type."""
    changed = ModelProto()
    changed.CopyFrom(model)
    fixed = {name for node in model.graph.node for name in node.input[1:]
             if node.op_type != "Einsum"}  # fmt: skip
    for value in (*changed.graph.input, *changed.graph.output):
        if value.name not in fixed:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return changed, {name: array if name in fixed else np.asarray(array, np.float32)
                     for name, array in arrays.items()}  # fmt: skip
