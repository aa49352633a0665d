"""Memory of several element types: what buffers take, and how they are read and pointed to."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from depthwise.compiler.autotune.measurements import MeasurementCache
from depthwise.compiler.codegen.emit import _pointer, emit
from depthwise.compiler.lowering.algorithms import ConvWorkload
from depthwise.compiler.lowering.views import Buffer, TensorView
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.planning import make_plan
from depthwise.compiler.verification.trace import read_view
from depthwise.graph import capture
from depthwise.graph.dtypes import DTYPES
from depthwise.runtime.target import find_target


def test_buffers_count_elements_of_their_type():
    for dtype, size in (("float32", 4), ("uint8", 1), ("bfloat16", 2), ("float64", 8)):
        assert Buffer("arena", 10, dtype=dtype).bytes == 10 * size


def test_what_lies_in_the_arena_is_read_in_its_type():
    memory = np.arange(64, dtype=np.uint8)
    view = TensorView(1, 3, (2, 2), (8, 2))
    found = read_view(memory, view, DTYPES["int16"])
    stored = memory.view(np.int16)
    np.testing.assert_array_equal(found, stored[[[3, 5], [11, 13]]])
    found = read_view(memory, view, DTYPES["bfloat16"])
    np.testing.assert_array_equal(
        found, DTYPES["bfloat16"].decode(memory.view(np.uint16)[[[3, 5], [11, 13]]])
    )


def test_pointers_into_the_arena_are_of_the_buffers_type():
    graph = capture(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh()), (1, 3, 6, 6))
    plan = make_plan(rewrite(graph), find_target("native"))
    number = next(iter(plan.arena.offsets))
    buffers = list(plan.buffers)
    buffers[number] = replace(buffers[number], dtype="int8")
    arena = replace(plan.arena, offsets={**plan.arena.offsets, number: 128})
    changed = replace(plan, buffers=tuple(buffers), arena=arena)
    view = TensorView(number, 3, (2,), (1,))
    assert _pointer(view, replace(plan, arena=arena)) == "a + 35"
    assert _pointer(view, changed) == "(signed char *)a + 131"
    with pytest.raises(AssertionError):
        emit(changed)  # its kernels compute float32


def test_a_layer_in_another_type_is_another_layer():
    layer = ConvWorkload(1, 8, 8, 64, 9, (3, 3), 16, 16, 1)
    other = replace(layer, dtype="float16")
    assert layer != other
    assert layer.weight_bytes(9) == 2 * other.weight_bytes(9) == 9 * 16 * 16 * 4
    kept = MeasurementCache(find_target("native"), None)
    assert kept.path(layer) != kept.path(other)
