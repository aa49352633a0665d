"""The ONNX project's own operator cases, through the interpreter and through compiled kernels.

All cases are parts of one graph and one library. A case that is not run stands in EXCLUDED with
the reason, and the adapter must refuse it for that reason.
"""

import warnings
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatch

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a dependency's making
    from onnx.backend.test.loader import load_model_tests

import onnx_images  # noqa: F401  (registers its rules)
import onnx_tensors  # noqa: F401  (registers its rules)
from onnx_adapter import RULES, Converted, Refused, convert, join

from depthwise.compiler.codegen.emit import emit_units
from depthwise.compiler.pipeline import UNITS, rewrite
from depthwise.compiler.plan import make_plan
from depthwise.compiler.toolchain.build import compile_c
from depthwise.graph import interpret
from depthwise.runtime.library import Code, align_copy, aligned_bytes
from depthwise.runtime.target import find_target

RTOL, ATOL = 1e-5, 1e-6  # ONNX asks for 1e-3 and 1e-7
ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 1e-3}  # written with four decimals

TYPE = "another type than float32"
PLANES = "not images (N, C, H, W)"
EMPTY = "no elements"
NEAREST = "other nearest pixels than floor(i · step)"
POSITIONS = "other positions than (i + 0.5) · step - 0.5"

EXCLUDED = {
    "test_*_int8": TYPE,
    "test_*_int16": TYPE,
    "test_m??_int32": TYPE,
    "test_m??_int64": TYPE,
    "test_*_uint8": TYPE,
    "test_*_uint16": TYPE,
    "test_*_uint32": TYPE,
    "test_*_uint64": TYPE,
    "test_div_int32_trunc": TYPE,
    "test_m??_float16": TYPE,
    "test_m??_float64": TYPE,
    "test_clip_default_int8_*": TYPE,
    "test_reduce_m??_bool_inputs": TYPE,
    "test_reduce_max_empty_set_bool": TYPE,
    "test_averagepool_[13]d_*": PLANES,
    "test_convtranspose_[13]d": PLANES,
    "test_maxpool_[13]d_*": PLANES,
    "test_averagepool_2d_dilations": "means of pixels that are apart",
    "test_maxpool_with_argmax_*": "the places of maxima",
    "test_batchnorm_*_training_mode": "training",
    "test_reduce_*_empty_set": EMPTY,
    "test_reduce_*_empty_set_expanded": EMPTY,
    "test_reduce_sum_empty_set_non_reduced_axis_zero": EMPTY,
    "test_reshape_allowzero_reordered": EMPTY,
    "test_slice_start_out_of_bounds": EMPTY,
    "test_split_zero_size_splits_*": EMPTY,
    "test_slice_neg_steps": "backwards",
    "test_resize_*_cubic*": "cubic interpolation",
    "test_resize_*_linear_antialias": "antialiasing",
    "test_resize_tf_crop_and_resize*": "a region that is given when the network runs",
    "test_resize_downsample_*_nearest": NEAREST,
    "test_resize_downsample_sizes_nearest_not_smaller": NEAREST,
    "test_resize_upsample_sizes_nearest_round_prefer_ceil_asymmetric": NEAREST,
    "test_resize_upsample_sizes_nearest_ceil_half_pixel": NEAREST,
    "test_resize_downsample_sizes_linear_pytorch_half_pixel": POSITIONS,
    "test_resize_*_linear_half_pixel_symmetric": POSITIONS,
}


@dataclass(frozen=True)
class Outcomes:
    """What became of each case: converted with the outputs to expect, or the reason why not."""

    operators: dict[str, str]  # of every case that has only operators we have a rule for
    converted: dict[str, Converted]
    expected: dict[str, list[np.ndarray]]
    refused: dict[str, str]


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases' own arithmetic overflows on purpose
        cases = load_model_tests(kind="node")
    found = Outcomes({}, {}, {}, {})
    for case in cases:
        assert case.model
        assert case.data_sets
        names = [node.op_type for node in case.model.graph.node]
        if not set(names) <= set(RULES):
            continue
        found.operators[case.name] = " ".join(names)
        inputs, outputs = case.data_sets[0]
        try:
            found.converted[case.name] = convert(case.model, list(inputs))
            found.expected[case.name] = list(outputs)
        except Refused as reason:
            found.refused[case.name] = str(reason)
    return found


def failures(outcomes: Outcomes, results: dict[str, np.ndarray]) -> list[str]:
    """Return a line for each output, named <case>/<output>, that is not as ONNX says."""
    lines = []
    for name, case in outcomes.converted.items():
        for output, expected in zip(case.graph.outputs, outcomes.expected[name], strict=True):
            y = results[f"{name}/{output.name}"]
            if y.shape != expected.shape:
                lines.append(f"{name}: shape {y.shape}, expected {expected.shape}")
            elif not np.allclose(y, expected, ROUNDED.get(name, RTOL), ATOL):
                lines.append(f"{name}: off by {np.abs(y - expected).max():.3g}")
    return lines


def test_the_interpreter_agrees_with_every_case(outcomes):
    results = {}
    for name, case in outcomes.converted.items():
        values = interpret(case.graph, *case.inputs)
        results |= {f"{name}/{o.name}": values[o.value] for o in case.graph.outputs}
    assert failures(outcomes, results) == []


def test_compiled_kernels_agree_with_every_case(outcomes):
    graph = rewrite(join({name: case.graph for name, case in outcomes.converted.items()}))
    plan = make_plan(graph, find_target("native"))
    code = Code(compile_c(emit_units(plan, UNITS), plan.target))
    inputs = [np.ascontiguousarray(x) for c in outcomes.converted.values() for x in c.inputs]
    outputs = [np.full(graph.type(o.value).shape, np.nan, np.float32) for o in graph.outputs]
    code.run(align_copy(plan.weights), inputs, outputs, aligned_bytes(code.arena_bytes))
    results = {o.name: y for o, y in zip(graph.outputs, outputs, strict=True)}
    assert failures(outcomes, results) == []
    passed = Counter(outcomes.operators[name] for name in outcomes.converted)
    print(f"{passed.total()} cases passed:", *sorted(outcomes.converted))  # shown by pytest -s
    print("by operator:", ", ".join(f"{name} {count}" for name, count in sorted(passed.items())))


def test_every_case_that_is_not_run_is_excluded_for_the_reason_found(outcomes):
    listed = {
        name: reason
        for name in outcomes.operators
        for pattern, reason in EXCLUDED.items()
        if fnmatch(name, pattern)
    }
    assert listed == outcomes.refused
    print(f"{len(listed)} cases excluded:", dict(Counter(listed.values())))


def test_every_exclusion_is_of_some_case(outcomes):
    stale = [p for p in EXCLUDED if not any(fnmatch(name, p) for name in outcomes.refused)]
    assert not stale


def test_every_rule_has_a_case_that_passes(outcomes):
    passed = {op for name in outcomes.converted for op in outcomes.operators[name].split()}
    assert passed == set(RULES)
