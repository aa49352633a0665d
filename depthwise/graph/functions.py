"""The names of functions of one element and of two.

Parameters are the slope of leaky_relu, the alpha of elu, the bounds of clamp, the exponent of
power; of wrap the lowest whole number and how many there are, around which a number without its
fraction goes. threshold(a, b) is b up to a and x above, hard_shrink(a) 0 from -a to a and x
elsewhere. round takes ties to even, sinc is sin(pi · x) / (pi · x), sign of NaN is 0.
"""

from typing import Literal

Function = Literal[
    "relu", "relu6", "leaky_relu", "hard_swish", "hard_sigmoid", "sigmoid", "silu", "gelu",
    "gelu_tanh", "tanh", "elu", "clamp", "softplus", "mish", "power", "sqrt", "exp", "log", "abs",
    "negative", "reciprocal_sqrt", "erf", "trunc", "wrap", "log2", "log10", "log1p", "expm1",
    "exp2", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh",
    "sinc", "erfc", "floor", "ceil", "round", "sign", "threshold", "hard_shrink",
]  # fmt: skip

BinaryFunction = Literal[
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "remainder", "fmod",
    "floor_divide", "arctan2", "hypot",
]  # fmt: skip
