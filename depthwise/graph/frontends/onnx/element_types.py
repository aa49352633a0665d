"""The numbers by which ONNX knows element types."""

import numpy as np
from onnx import TensorProto
from onnx.helper import np_dtype_to_tensor_dtype


def element_type(dtype: str) -> int:
    """Return ONNX's number of one of our element types; NumPy has no bfloat16 to ask for."""
    if dtype == "bfloat16":
        return TensorProto.BFLOAT16
    return np_dtype_to_tensor_dtype(np.dtype(dtype))
