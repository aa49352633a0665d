"""The ONNX project's own operator cases, through the interpreter and through compiled kernels.

All cases are read from files by the public reader and are parts of one graph and one library. A
case that is not run stands in EXCLUDED with the reason, for which it must be refused.
"""

import re
from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatch
from types import MappingProxyType

import numpy as np
import pytest
from join_graphs import join
from onnx_cases import Outcomes, read_cases

from depthwise.compiler.codegen.emit import emit_units
from depthwise.compiler.pipeline import UNITS, rewrite
from depthwise.compiler.planning import make_plan
from depthwise.graph import interpret
from depthwise.graph.frontends.onnx import read  # noqa: F401  (registers the rules)
from depthwise.graph.frontends.onnx.rules import RULES
from depthwise.runtime.library import Code, align_copy, aligned_bytes
from depthwise.runtime.target import find_target
from depthwise.toolchain.build import compile_c

RTOL, ATOL = 1e-5, 1e-6  # ONNX asks for 1e-3 and 1e-7
# written with four decimals
ROUNDED = {
    "test_averagepool_2d_ceil_last_window_starts_on_pad": 1e-3, "test_gridsample_bicubic": 1e-3,
    # halves, which its reference rounds between operators in another order
    "test_attention_4d_gqa_with_past_and_present_fp16_expanded": 2e-3,
}  # fmt: skip

TYPE = "libraries compute in float32"  # these are interpreted
BYTES = "kernels hold values in uint8, and weights in int8"  # so are these
FOR_CHANNELS = "has a scale for each channel of a value"
NO_TYPE = "a type that the graph does not have|element type '\\w+' is not known"
EMPTY = "each axis needs one element or more|no elements"
DEPTH = "it spreads the depth of a volume"
COMPUTED = "is computed when the network runs, where a library needs it when it is made"
TRAINING = "it is in training mode"
NOT_TENSORS = "only tensors are read"
CONSTANT = "the model has no inputs"

EXCLUDED = {
    "test_cast_*FLOAT[48]*": NO_TYPE,
    "test_cast_*INT[24]*": NO_TYPE,
    "test_castlike_*": f"{EMPTY}|{NO_TYPE}",
    "test_[!dpq]*_uint16*": TYPE,
    "test_[!dpq]*_uint32*": TYPE,
    "test_[!dpq]*_uint64*": TYPE,
    "test_div_uint[136]*": TYPE,
    "test_equal_string*": NO_TYPE,
    "test_gathernd_example_int32*": COMPUTED,
    "test_not_?d": "is of opset 1; opsets 7 to 28 are read",
    "test_shape_start_greater_than_end": EMPTY,
    "test_quantizelinear_axis": FOR_CHANNELS,
    "test_dequantizelinear_axis": FOR_CHANNELS,
    "test_quantizelinear_[!a]*": f"{TYPE}|{BYTES}|it has a scale for each block|it quantises to",
    "test_dequantizelinear_[!a]*": f"{TYPE}|{BYTES}|{NO_TYPE}|it has a scale for each block",
    "test_qlinearmatmul_*_int8_*": BYTES,
    "test_dynamicquantizelinear*": "takes a scale that is computed while the network runs",
    "test_eyelike_with_dtype": "it makes a matrix of another type",
    "test_convtranspose_3d": DEPTH,
    "test_affine_grid_3d*": "it makes a grid of other than images",
    "test_gridsample_volumetric_*": "it samples other than images",
    "test_lstm_with_peepholes": "its gates see the cell's state",
    "test_batchnorm_*_training_mode": TRAINING,
    "test_training_dropout*": TRAINING,
    "test_dropout_default_mask*": "its mask is read",
    "test_maxpool_with_argmax_2d_precomputed_strides": "its places of maxima count columns first",
    "test_constant": CONSTANT,
    "test_col2im_5d": "it makes volumes of 3 axes",
    "test_einsum_batch_diagonal": "its equation takes a diagonal",
    "test_identity_opt": NOT_TENSORS,
    "test_identity_sequence": NOT_TENSORS,
    "test_pow_types_int*": f"Binary \\(power\\) of int|{CONSTANT}",
    "test_resize_tf_crop_and_resize_extrapolation_value": "it fills what lies outside",
    "test_slice_start_out_of_bounds": EMPTY,
    "test_reduce_*_empty_set*": EMPTY,
    "test_reshape_allowzero_reordered": EMPTY,
    "test_split_zero_size_splits_*": EMPTY,
    "test_tri?_zero": EMPTY,
}

# they align corners to fractions of a pixel, as neither ONNX's text does nor ONNX Runtime
DISPUTED = ("test_resize_downsample_scales_*_align_corners",)

# tests/test_onnx_converters.py has some for these
WITHOUT_CASE = {
    "GlobalLpPool",
    *(name for name in RULES if name.startswith("com.microsoft.")),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> Outcomes:
    return read_cases(tmp_path_factory.mktemp("cases"), {*RULES, "Constant"})


def failures(
    outcomes: Outcomes,
    results: dict[str, np.ndarray],
    digits: Mapping[str, float] = MappingProxyType({}),
) -> list[str]:
    """Return a line for each output, named <case>/<output>, that is not as ONNX says.

    `digits` is what the last one of a type is worth, where results are not rounded to the type.
    """
    lines = []
    for name, case in outcomes.converted.items():
        if any(fnmatch(name, pattern) for pattern in DISPUTED):
            continue
        for output, expected in zip(case.graph.outputs, outcomes.expected[name], strict=True):
            y = results.get(f"{name}/{output.name}", expected)  # of those that were computed
            digit = digits.get(case.graph.type(output.value).dtype, RTOL)
            rounding = max(digit, ROUNDED.get(name, RTOL))
            if y.shape != expected.shape:
                lines.append(f"{name}: shape {y.shape}, expected {expected.shape}")
            elif not np.allclose(y, expected, rounding, ATOL, equal_nan=True):
                lines.append(f"{name}: off by {np.abs(y * 1.0 - expected).max():.3g}")
    return lines


def test_the_interpreter_agrees_with_every_case(outcomes):
    results = {}
    for name, case in outcomes.converted.items():
        with np.errstate(all="ignore"):
            values = interpret(case.graph, *case.inputs)
        results |= {f"{name}/{o.name}": values[o.value] for o in case.graph.outputs}
    assert failures(outcomes, results) == []


def test_compiled_kernels_agree_with_every_case(outcomes):
    cases = outcomes.compiled
    graph = rewrite(join({name: case.graph for name, case in cases.items()}))
    plan = make_plan(graph, find_target("native"))
    code = Code(compile_c(emit_units(plan, UNITS), plan.target))
    given = (x for case in cases.values() for x in case.inputs)
    inputs = [np.ascontiguousarray(x, type_.element.storage)
              for x, type_ in zip(given, graph.inputs.values(), strict=True)]  # fmt: skip
    types = [graph.type(output.value) for output in graph.outputs]
    outputs = [np.empty(type_.shape, type_.element.storage) for type_ in types]
    for y in outputs:
        y.reshape(-1).view(np.uint8)[:] = 0xFF  # which is NaN in floats
    code.run(align_copy(plan.weights), inputs, outputs, aligned_bytes(code.arena_bytes))
    results = {o.name: y for o, y in zip(graph.outputs, outputs, strict=True)}
    assert len(results) >= len(cases)
    halves = {"float16": 2.0**-10, "bfloat16": 2.0**-7}  # computed in float32, and left in it
    with np.errstate(invalid="ignore"):
        assert failures(outcomes, results, halves) == []
    passed = Counter(operator for name in cases
                     for operator in set(outcomes.operators[name].split()))  # fmt: skip
    print(f"{len(outcomes.converted)} cases interpreted, {len(cases)} compiled")  # by pytest -s
    print("by operator:", ", ".join(f"{name} {count}" for name, count in sorted(passed.items())))


def test_every_case_that_is_not_run_is_excluded_for_the_reason_found(outcomes):
    wrong = []
    for name, message in outcomes.refused.items():
        reasons = [reason for pattern, reason in EXCLUDED.items() if fnmatch(name, pattern)]
        if len(reasons) != 1 or not re.search(reasons[0], message):
            wrong.append(f"{name}: {message}, excluded for {reasons}")
    assert not wrong
    print(f"{len(outcomes.refused)} cases excluded")


def test_every_exclusion_is_of_some_case(outcomes):
    stale = [p for p in EXCLUDED if not any(fnmatch(name, p) for name in outcomes.refused)]
    assert not stale


def test_no_case_that_is_run_is_excluded(outcomes):
    run = [name for name in outcomes.compiled if any(fnmatch(name, p) for p in EXCLUDED)]
    assert not run


def test_every_rule_has_a_case_that_passes(outcomes):
    passed = {op for name in outcomes.converted for op in outcomes.operators[name].split()}
    assert passed == {*RULES, "Constant"} - WITHOUT_CASE
