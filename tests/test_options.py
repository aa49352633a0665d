"""One value says how a network is compiled, with one set of defaults wherever that is asked."""

import inspect
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.cli import compile as compile_verb
from depthwise.cli import ship as ship_verb
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.pipeline import read_samples
from depthwise.compiler.verification.references.interpreter import InterpreterReference
from depthwise.errors import Mismatch
from depthwise.graph import capture, interpret
from depthwise.runtime.target import find_target

DEFAULTS = {field.name: field.default for field in fields(CompileOptions)}


@pytest.mark.parametrize("verb", [dw.compile, compile_verb.compile, ship_verb.ship])
def test_python_and_the_command_line_have_the_same_defaults(verb):
    parameters = inspect.signature(verb).parameters
    assert {name: parameters[name].default for name in DEFAULTS} == DEFAULTS


def test_options_are_values():
    one, other = CompileOptions(threads=2), CompileOptions(threads=2)
    assert (one, hash(one)) == (other, hash(other))
    assert one != CompileOptions()
    with pytest.raises(FrozenInstanceError):
        one.threads = 3  # type: ignore[misc]
    assert CompileOptions().chosen == find_target("native")
    assert CompileOptions("wasm32").chosen.architecture == "wasm32"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target": "z80"},
            "no target is named 'z80': take one of native, aarch64, aarch64-fp16, portable",
        ),
        ({"threads": 0}, "threads=0: a library runs on 1 to 64 threads"),
        ({"threads": 65}, "threads=65: a library runs on 1 to 64 threads"),
        ({"threads": "2"}, "threads='2': a library runs on 1 to 64 threads"),
        ({"threads": True}, "threads=True: a library runs on 1 to 64 threads"),
        ({"threads": 2, "target": "wasm32"}, "threads=2: wasm32 has no threads; leave it at 1"),
        ({"tune": "no"}, "tune='no': True or False"),
        ({"check_plan": 1}, "check_plan=1: True or False"),
        ({"cc": 5}, "cc=5: the name or the path of a C compiler"),
        ({"optimize": "size"}, "optimize='size': optimize for speed or memory"),
        ({"precision": "int8"}, "precision='int8': compute in float32, bfloat16 or float16"),
        (
            {"precision": "bfloat16", "tune": True},
            "tune=True with precision='bfloat16': ways are timed in float32 alone, leave it out",
        ),
        (
            {"precision": "bfloat16", "target": "x86-64"},
            "target='x86-64' with precision='bfloat16': a library for a family of CPUs computes in "
            "float32; compile for one of them, x86-64-v4, x86-64-v3, x86-64-v2, or for x86-64-amx",
        ),
        ({"stored_weights": "int8"}, "stored_weights='int8': store them in float32 or float16"),
        (
            {"precision": "bfloat16", "stored_weights": "float16"},
            "stored_weights='float16' with precision='bfloat16', which has its own weights in that "
            "type: leave one of them out",
        ),
        (
            {"stored_weights": "float16", "target": "x86-64"},
            "target='x86-64' with stored_weights='float16': a library for a family of CPUs "
            "computes in float32; compile for one of them, x86-64-v4, x86-64-v3, x86-64-v2",
        ),
        (
            {"precision": "float16", "target": "x86-64"},
            "target='x86-64' with precision='float16': a library for a family of CPUs computes in "
            "float32; compile for one of them, x86-64-v4, x86-64-v3, x86-64-v2, or for "
            "x86-64-avx512-fp16",
        ),
        (
            {"system": "beos", "target": "aarch64"},
            "system='beos' is no operating system for aarch64: take one of linux, windows, macos",
        ),
        ({"system": "linux", "target": "wasm32"}, "system='linux' is no .* for wasm32: wasm32 has"),
    ],
)
def test_options_that_no_library_can_have_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        CompileOptions(**options)


def test_numbers_of_numpy_and_paths_are_options():
    options = CompileOptions(threads=np.int64(2), cc=Path("gcc"))  # type: ignore[arg-type]
    assert options == CompileOptions(threads=2, cc="gcc")
    assert (type(options.threads), type(options.cc)) == (int, str)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"samples": None}, "samples is a NoneType: give a list"),
        ({"samples": "photos"}, "samples is a str: give a list"),
        ({"samples": {"x": 1}}, "samples is a dict: give a list"),
        ({"samples": ["a.jpg"]}, "sample 0: a str, where each input is an array"),
        ({"samples": [torch.zeros(1, 3, 8, 8).to_sparse()]}, "sample 0: can't convert Sparse"),
        ({"preparation": "imagenet"}, r"preparation is a str: give a dw\.Preparation"),
    ],
)
def test_samples_of_another_kind_are_refused(graph, given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        dw.compile(graph, **given)


def test_samples_are_read_as_tensors_are():
    x = torch.ones(2, 2, dtype=torch.bfloat16, requires_grad=True)
    for sample in (x, x.double(), (x.half(),), [x.detach().float().numpy()]):
        ((found,),) = read_samples([sample], single=True)
        assert (found.dtype, found.tolist()) == (np.float32, [[1, 1], [1, 1]])


def test_ways_are_measured_where_it_is_asked_for_and_means_something():
    foreign = "aarch64" if find_target("native").name != "aarch64" else "wasm32"
    assert CompileOptions(tune=True).measures
    assert CompileOptions(find_target("native").name, tune=True).measures
    assert not CompileOptions().measures
    assert not CompileOptions(foreign, tune=True).measures
    assert not CompileOptions(optimize="memory", tune=True).measures


# ------------------------------------------------------------------------------ graphs as the hub


@pytest.fixture(scope="module")
def graph():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    return capture(net.eval(), (1, 3, 8, 8))


def test_a_graph_is_compiled_against_the_interpreter(graph):
    library = dw.compile_graph(graph, InterpreterReference(graph))
    found = library.manifest.verification
    assert found
    assert found.error < 1e-5
    assert {layer.value for layer in found.layers} <= {node.name for node in graph}
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8), np.float32)
    expected = interpret(graph, x)[graph.outputs[0].value]
    np.testing.assert_allclose(library(x), expected, atol=1e-5)


def with_larger_weight(graph):
    constant = graph.constants["0.weight"]
    larger = replace(constant, data=constant.data * np.float32(1.01))
    return replace(graph, constants={**graph.constants, "0.weight": larger})


def test_a_graph_that_is_not_its_reference_is_found(graph):
    with pytest.raises(Mismatch, match=r"differ from the interpreter's .* the first to differ is"):
        dw.compile_graph(graph, InterpreterReference(with_larger_weight(graph)))


def test_a_graph_has_the_same_code_whoever_judges_it(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    captured = capture(net, (1, 3, 8, 8))
    one = dw.compile(net, (1, 3, 8, 8))
    other = dw.compile_graph(captured, InterpreterReference(captured))
    for library, name in ((one, "one"), (other, "other")):
        library.save(tmp_path / name)
    assert (tmp_path / "one/net.c").read_bytes() == (tmp_path / "other/net.c").read_bytes()
    assert one.manifest.memory == other.manifest.memory
