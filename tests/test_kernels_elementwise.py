"""Activations and arithmetic in C against the interpreter and NumPy's broadcasting."""

import ctypes
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_cases import Case, check_close, check_equal, check_nan
from kernel_harness import VECTORS, call, check_gcc, compile_kernel, pointer

from depthwise.compiler.fused_ops import Epilogue, Fused, Holds, Select
from depthwise.graph import interpret_functions, ops
from depthwise.graph.dtypes import CONVERTED
from depthwise.graph.interpret import FUNCTIONS

PARAMETERS = {
    "leaky_relu": (0.25,), "elu": (1.5,), "clamp": (-1.25, 2.5), "power": (2.5,),
    "wrap": (-8.0, 16.0),
}  # fmt: skip
EXACT = ("relu", "relu6", "leaky_relu", "clamp", "abs", "negative", "trunc", "wrap")
POSITIVE = ("power", "sqrt", "log", "reciprocal_sqrt")  # are NaN below zero
NAMES = [name for name in get_args(ops.Function) if name not in interpret_functions.FUNCTIONS]

INCLUDE = '#include "vector.h"\n#include "activation.h"\n'


def function(name: str, parameters: tuple[float, ...]) -> str:
    a, b = (*parameters, 0.0, 0.0)[:2]
    return f"(struct act){{ACT_{name.upper()}, {a!r}f, {b!r}f}}"


def source() -> str:
    """Return C with two functions for each activation: one element, and one vector."""
    lines = [INCLUDE]
    for name in NAMES:
        f = function(name, PARAMETERS.get(name, ()))
        lines += [
            f"void one_{name}(const float *x, float *y) {{ *y = act({f}, *x); }}",
            f"void many_{name}(const float *x, float *y) {{ store(y, vact({f}, load(x))); }}",
        ]
    return "\n".join(lines)


def apply(library: ctypes.CDLL, name: str, x: np.ndarray, vector: int) -> np.ndarray:
    """Return f(x), `vector` elements a call."""
    assert x.size % vector == 0
    y = np.empty_like(x)
    f = library[("one_" if vector == 1 else "many_") + name]
    for i in range(0, x.size, vector):
        f(pointer(x, i), pointer(y, i))
    return y


def arguments(name: str) -> np.ndarray:
    """Return numbers near zero, of everyday size and large, of both signs where f takes them."""
    draw = np.random.default_rng(0)
    parts = [draw.uniform(-s, s, 512) for s in (0.01, 1, 4, 20, 80)]
    x = np.concatenate([*parts, [0.0, -0.0, 1.0, -1.0, 6.0, -3.0, 3.0, 20.5]] * 2)
    return (np.abs(x) + 1e-6 if name in POSITIVE else x).astype(np.float32)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("name", NAMES)
def test_activations_are_right(name, vector):
    library = compile_kernel(source(), vector=vector, naive=False)
    x = arguments(name)
    expected = FUNCTIONS[name](x.astype(float), *PARAMETERS.get(name, ()))
    # those that end in a product with x cancel near their tails: bounded by x, not by f(x)
    product = name in ("hard_swish", "silu", "gelu", "gelu_tanh", "mish")
    scale = np.maximum(np.abs(expected), np.abs(x) if product else 0)
    for width in (1, vector):
        found = apply(library, name, x, width)
        if name in EXACT:
            np.testing.assert_array_equal(found, expected.astype(np.float32))
        else:
            worst = np.abs(found - expected) - 2.5e-7 * scale - 1e-44
            assert (worst <= 0).all(), f"{name}({x[worst.argmax()]}) = {found[worst.argmax()]}"


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("name", NAMES)
def test_vectors_agree_with_libm_at_the_ends(name, vector):
    library = compile_kernel(source(), vector=vector, naive=False)
    ends = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, 3e38, -3e38, 88.72, 88.73, -87.5, -103.0,
            -104.5, 1000.0, -1000.0, 1e-38]  # fmt: skip
    x = np.array(ends, np.float32)
    for _ in range(vector):  # each in each lane
        one, many = (apply(library, name, x, width) for width in (1, vector))
        np.testing.assert_allclose(many, one, rtol=3e-7, atol=3e-45)
        x = np.roll(x, 1)


@pytest.mark.parametrize("name", NAMES)
def test_activations_take_nan_and_infinity_as_pytorch_does(name):
    functions = {
        "relu": F.relu, "relu6": F.relu6, "leaky_relu": F.leaky_relu, "hard_swish": F.hardswish,
        "hard_sigmoid": F.hardsigmoid, "gelu": F.gelu, "elu": F.elu, "silu": F.silu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "softplus": F.softplus,
        "mish": F.mish, "power": lambda x, a: x**a, "negative": torch.neg,
        "reciprocal_sqrt": torch.rsqrt,
        "wrap": lambda x, lowest, n: torch.remainder(x.trunc() - lowest, n) + lowest,
    }  # fmt: skip
    library = compile_kernel(source(), vector=4, naive=False)
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 7, -7, 1000, -1000, 0.5, 3, -3], np.float32)
    f = functions.get(name) or getattr(torch, name)
    expected = f(torch.from_numpy(x).double(), *PARAMETERS.get(name, ())).numpy()
    for width in (1, 4):
        found = apply(library, name, x, width)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(
            FUNCTIONS[name](x, *PARAMETERS.get(name, ())), expected, 1e-5, 1e-6
        )


@pytest.mark.parametrize("vector", [1, 4])
def test_clamp_to_bounds_that_cross_gives_the_upper_one(vector):
    f = "(struct act){ACT_CLAMP, 3.0f, -2.0f}"
    text = f"{INCLUDE}void one_c(const float *x, float *y) {{ *y = act({f}, *x); }}\n"
    text += f"void many_c(const float *x, float *y) {{ store(y, vact({f}, load(x))); }}"
    x = np.array([-9, 0, 1, 9], np.float32)
    found = apply(compile_kernel(text, vector=4, naive=False), "c", x, vector)
    np.testing.assert_array_equal(found, torch.from_numpy(x).clamp(3, -2).numpy())


def test_every_function_has_its_kind():
    assert {*NAMES, *interpret_functions.FUNCTIONS} == set(FUNCTIONS)
    kinds = source().count("ACT_")
    assert kinds == 2 * len(NAMES)


EPILOGUE = (
    INCLUDE
    + """
static const struct epilogue e = {{ACT_RELU, 0, 0}, ADD, {ACT_CLAMP, -2, 3}};
void one(const float *x, const float *s, float *y) {
    for (int i = 0; i < VL; i++) y[i] = epilogue(e, x[i], s[i]);
}
void many(const float *x, const float *s, float *y) { store(y, vepilogue(e, load(x), load(s))); }
"""
)


@pytest.mark.parametrize("add", [0, 1])
@pytest.mark.parametrize("vector", VECTORS)
def test_epilogue_adds_between_its_functions(vector, add):
    library = compile_kernel(EPILOGUE.replace("ADD", str(add)), vector=vector, naive=False)
    x, s = np.random.default_rng(0).integers(-9, 10, (2, vector)).astype(np.float32)
    for f in (library.one, library.many):
        y = np.empty_like(x)
        f(pointer(x), pointer(s), pointer(y))
        np.testing.assert_array_equal(y, np.clip(np.maximum(x, 0) + add * s, -2, 3))


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("header", ["activation", "elementwise", "pool", "norm", "reduce", "copy",
                                    "resize", "matmul", "convert"])  # fmt: skip
def test_headers_compile_with_gcc_without_a_warning(header, vector):
    check_gcc(f'{INCLUDE}#include "{header}.h"\nint nothing;\n', vector=vector)


UNARY = tuple(
    Case(ops.Activation("relu6"), (shape,))
    for shape in (
        (1, 1, 1, 1),
        (1, 7, 3, 5),
        (2, 16, 3, 3),
        (1, 33, 1, 1),
        (5,),
        (3, 17),
        (2, 3, 4),
    )
)

BINARY = tuple(
    Case(ops.Binary(name), shapes, constants)  # type: ignore[arg-type]
    for name, shapes, constants in (
        ("add", ((1, 33, 5, 7), (1, 33, 5, 7)), 2),
        ("subtract", ((2, 5, 3, 3), (1, 5, 1, 1)), 2),
        ("multiply", ((2, 40, 5, 3), (2, 40, 1, 1)), 2),
        ("multiply", ((2, 1, 5, 3), (2, 17, 5, 3)), 2),
        ("maximum", ((1, 7, 1, 5), (1, 1, 6, 1)), 2),
        ("minimum", ((1, 19, 4, 5), ()), 1),
        ("subtract", ((), (1, 19, 4, 5)), 2),
        ("add", ((1, 19, 4, 5), (19, 1, 1)), 1),
        ("add", ((1, 19, 4, 5), (19, 4, 5)), 1),
        ("add", ((1, 19, 4, 5), (19, 4, 5)), 2),
        ("add", ((2, 3, 4, 5), (4, 5)), 1),
        ("add", ((2, 3, 4, 5), (5,)), 1),
        ("multiply", ((3, 17), (17,)), 1),
        ("multiply", ((3, 17), (3, 1)), 2),
        ("add", ((2, 3, 2, 2, 3, 5), (2, 1, 2, 1, 3, 1)), 2),
        ("add", ((1,), (1,)), 2),
    )
)

RELU = ops.Activation("relu")

FUSED = tuple(
    Case(Fused(ops.Binary(name), Epilogue(None, add, RELU)), shapes, constants)  # type: ignore[arg-type]
    for name, add, shapes, constants in (
        ("add", False, ((1, 33, 5, 7), (1, 33, 5, 7)), 2),
        ("multiply", True, ((2, 40, 5, 3), (2, 40, 1, 1), (2, 40, 5, 3)), 3),
        ("multiply", True, ((1, 19, 4, 5), (19, 4, 5), (1, 19, 4, 5)), 1),
        ("multiply", True, ((2, 1, 5, 3), (2, 17, 5, 3), (2, 17, 5, 3)), 3),
        ("multiply", True, ((3, 1), (3, 1), (3, 1)), 3),
        ("multiply", True, ((2, 5, 3), (3,), (2, 5, 3)), 3),
    )
)

PRELU = tuple(
    Case(ops.PRelu(), shapes, 1)
    for shapes in (((2, 19, 3, 5), (19,)), ((2, 19, 3, 5), (1,)), ((2, 5), (5,)), ((2, 3, 4), (3,)))
)

COMPARE = tuple(
    Case(Holds(name), shapes, constants)  # type: ignore[arg-type]
    for name, shapes, constants in (
        ("equal", ((1, 33, 5, 7), (1, 33, 5, 7)), 2),
        ("not_equal", ((2, 40, 5, 3), (2, 40, 1, 1)), 2),
        ("less", ((1, 19, 4, 5), ()), 1),
        ("less_equal", ((), (1, 19, 4, 5)), 2),
        ("greater", ((2, 3, 2, 2, 3, 5), (2, 1, 2, 1, 3, 1)), 2),
        ("greater_equal", ((3, 17), (17,)), 1),
    )
)

SELECT = tuple(
    Case(Select(), shapes, 3)  # type: ignore[arg-type]
    for shapes in (
        ((1, 33, 5, 7), (1, 33, 5, 7), (1, 33, 5, 7)),
        ((2, 40, 1, 1), (2, 40, 5, 3), ()),
        ((1, 1, 5, 3), (2, 17, 1, 3), (2, 17, 5, 1)),
        ((3, 17), (), (17,)),
        ((2, 1, 2, 2, 1, 5), (2, 3, 1, 2, 3, 1), (1, 3, 2, 1, 3, 5)),
    )
)

DIVIDE = (
    Case(ops.Binary("divide"), ((1, 19, 4, 5), (1, 19, 4, 5))),
    Case(ops.Binary("divide"), ((), (3, 5))),
)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize(
    "cases", [UNARY, BINARY, FUSED, PRELU, COMPARE, SELECT],
    ids=["unary", "binary", "fused", "prelu", "compare", "select"],
)  # fmt: skip
def test_elementwise_is_exact_on_integers(cases, vector):
    check_equal(cases, vector)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("cases", [UNARY, BINARY, FUSED, PRELU],
                         ids=["unary", "binary", "fused", "prelu"])  # fmt: skip
def test_elementwise_passes_nan_on(cases, vector):
    check_nan(cases, vector)


@pytest.mark.parametrize("vector", VECTORS)
def test_division_is_close(vector):
    check_close(DIVIDE, vector, bound=1e-7)


# -------------------------------------------------------------------------------- element types

SHAPE = (2, 1, 3, 2, 2, 37)  # over six axes: packed, and with the last two turned
STRIDES = {"packed": (444, 444, 148, 74, 37, 1), "turned": (444, 444, 148, 74, 1, 2)}
NUMBERS = np.float32([0, 1, -1, 2.5, -2.5, 127, 128, -128, -129, 255, 256, 32767, -32769, 2**24,
                      2**31, -(2**31), 2**63, -(2**63), 1e30, np.nan, -np.inf])  # fmt: skip


def converted(x: np.ndarray, dtype: str) -> np.ndarray:
    """Return floats as C's conversion has them, and the lowest number for what it leaves open."""
    if dtype == "bool":
        return x != 0
    limits = np.iinfo(dtype)
    with np.errstate(invalid="ignore"):
        inside = (x >= float(limits.min)) & (x < float(limits.max) + 1)
        whole = np.where(inside, np.trunc(x), 0).astype(np.int64)
    return np.where(inside, whole, limits.min).astype(dtype)


@pytest.mark.parametrize("naive", [True, False])
@pytest.mark.parametrize("dtype", CONVERTED, ids=lambda dtype: dtype.name)
def test_element_types_are_converted(dtype, naive):
    floats = np.resize(NUMBERS, np.prod(SHAPE))
    whole = converted(floats, dtype.name)
    order = np.lib.stride_tricks.as_strided
    for name, strides in STRIDES.items():
        given = {"n": SHAPE, "x_stride": strides, "y_stride": STRIDES["packed"]}
        text = '#include "vector.h"\n#include "convert.h"\n'
        for direction, types in (("to", (dtype.c, "float")), ("from", ("float", dtype.c))):
            kernel = call(f"{dtype.short}_{direction}_floats", "x", "y", **given)
            text += f"void {direction}(const {types[0]} *x, {types[1]} *y) {{ {kernel}; }}\n"
        library = compile_kernel(text, vector=4, naive=naive)
        for function, x, y in ((library.to, whole, floats), (library["from"], floats, whole)):
            found = np.full_like(y, 3)
            function(pointer(x), pointer(found))
            moved = order(x, SHAPE, [stride * x.itemsize for stride in strides]).reshape(-1)
            expected = moved.astype(np.float32) if x is whole else converted(moved, dtype.name)
            np.testing.assert_array_equal(found, expected, name)
