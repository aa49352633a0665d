"""The library against PyTorch: the same inputs through both, value by value where they differ."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.export import ExportedProgram

from depthwise.compiler.fused import FlattenChannelsLast
from depthwise.compiler.library import Code, align_copy, aligned_bytes
from depthwise.compiler.manifest import LayerError, Verification
from depthwise.compiler.places import Place
from depthwise.compiler.plan import Plan
from depthwise.compiler.preparation import Preparation
from depthwise.graph.exported import as_module
from depthwise.spelling import in_line

TOLERANCE = 1e-4  # of the largest element
SENSITIVE = 10  # times PyTorch's own rounding error: deep untrained networks amplify any rounding
RANDOM = 2  # sets of inputs that we draw ourselves

Arrays = Sequence[np.ndarray]
Run = Callable[[Arrays], Arrays]  # inputs -> outputs, both in the network's order
Trace = Callable[[Arrays], Mapping[str, np.ndarray]]  # inputs -> every value of the network by name


class Mismatch(Exception):  # noqa: N818  (what is wrong is the library, and it says where)
    """A library computes something else than PyTorch: the message names the first layer."""


def verify(
    run: Run, trace: Trace, program: ExportedProgram, samples: Sequence[Arrays] = (),
    preparation: Preparation | None = None,
) -> Verification:  # fmt: skip
    """Compare a library with the program that it was compiled from, on random inputs and samples.

    `run` is the library's, `trace` that of a build that keeps all values. With a `preparation`
    both take raw images, and PyTorch gets them prepared. Errors are relative to
    the largest element of what PyTorch computes. Raises Mismatch, naming the first value that
    differs, where an output is off by more than TOLERANCE and by more than SENSITIVE times what
    PyTorch's own float32 is off its float64, ValueError for a sample that does not fit, or that
    PyTorch itself makes no numbers of.
    """
    reference = _Recorder(program, preparation)
    _check_samples(samples, reference)
    worst: dict[str, float] = {}
    errors: list[float] = []
    own_error: float | None = None
    for number, inputs in enumerate([*_random_inputs(reference), *samples]):
        expected = reference.outputs(inputs, forgiving=number < RANDOM)
        if not all(np.isfinite(y).all() for y in expected):
            if number < RANDOM:
                continue  # a logarithm, say: the network is not meant for such inputs
            raise ValueError(_explain_no_numbers(_describe(number), "other samples"))
        errors.append(_largest_error(run(inputs), expected))
        by_value = dict(_compare_values(trace(inputs), reference))
        if not errors[-1] <= TOLERANCE:
            own = _largest_error(expected, reference.in_double(inputs))
            if not (np.isfinite(own) and errors[-1] <= SENSITIVE * own):
                raise Mismatch(_explain(number, errors[-1], by_value, reference.paths))
            own_error = max(own, own_error or 0.0)
        worst = {name: max(error, worst.get(name, 0.0)) for name, error in by_value.items()}
    if not errors:
        raise ValueError(_explain_no_numbers("random inputs", "samples that the network is for"))
    layers = tuple(
        LayerError(path=in_line(reference.paths[name]), value=name, error=error)
        for name, error in worst.items()
    )
    return Verification(inputs=len(errors), error=max(errors), own_error=own_error, layers=layers)


def _check_samples(samples: Sequence[Arrays], reference: "_Recorder") -> None:
    """Raise ValueError where a sample has other shapes, or raw images another type, than taken."""
    expected = reference.shapes
    dtype = reference.preparation.dtype if reference.preparation else "float32"
    for i, sample in enumerate(samples):
        found = [x.shape for x in sample]
        if found != expected:
            raise ValueError(
                f"sample {i} has the shapes {found}: the network takes inputs of {expected}"
            )
        types = {str(x.dtype) for x in sample} - {dtype}
        if types:
            raise ValueError(f"sample {i} is {types.pop()}: the library takes {dtype}, convert it")


def _largest_error(found: Arrays, expected: Arrays) -> float:
    return max(relative_error(y, e) for y, e in zip(found, expected, strict=True))


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest |found - expected| over the largest |expected|; infinity for NaN."""
    if not expected.size:
        return 0.0
    difference = float(np.abs(found.astype(np.float64) - expected).max())
    largest = float(np.abs(expected).max())
    if difference == 0:
        return 0.0
    return difference / largest if np.isfinite(difference) and largest else float("inf")


def trace_plan(plan: Plan, code: Code) -> Trace:
    """Return the trace of a plan made with keep_all=True, built as `code`: inputs -> all values.

    Those that were flattened in another order than PyTorch's are left out.
    """
    reordered = {n.name for n in plan.graph if isinstance(n.op, FlattenChannelsLast)}
    weights, arena = align_copy(plan.weights), aligned_bytes(code.arena_bytes)
    output_sizes = [buffer.floats for buffer in plan.buffers if buffer.space == "output"]

    def trace(inputs: Arrays) -> dict[str, np.ndarray]:
        outputs = [np.empty(size, np.float32) for size in output_sizes]
        code.run(weights, [np.ascontiguousarray(x) for x in inputs], outputs, arena)
        return {
            name: _read_place(arena, plan.arena.offsets[place.buffer], place)
            for name, place in plan.places.items()
            if plan.buffers[place.buffer].space == "arena" and name not in reordered
        }

    return trace


def _read_place(arena: np.ndarray, start: int, place: Place) -> np.ndarray:
    """Return a copy of the value that lies in a buffer at `start` bytes of the arena."""
    floats = arena[start:].view(np.float32)[place.offset :]
    strides = tuple(4 * stride for stride in place.strides)
    return np.lib.stride_tricks.as_strided(floats, place.shape, strides).copy()


def _random_inputs(reference: "_Recorder") -> Iterator[Arrays]:
    """Draw standard normal inputs, or images of noise where they are prepared; always the same."""
    random, preparation = np.random.default_rng(0), reference.preparation
    for _ in range(RANDOM):
        yield [
            preparation.draw(random, shape)
            if preparation
            else random.standard_normal(shape, np.float32)
            for shape in reference.shapes
        ]


class _Recorder(fx.Interpreter):
    """Runs an exported program in PyTorch and keeps what each of its nodes computed.

    `shapes` are those of its inputs, before the preparation.
    """

    def __init__(self, program: ExportedProgram, preparation: Preparation | None):
        module = as_module(program)
        super().__init__(module)
        inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
        self.preparation = preparation
        self.shapes = [tuple(node.meta["val"].shape) for node in inputs]
        if preparation:
            self.shapes = [preparation.raw_shape(shape) for shape in self.shapes]
        self.paths = {node.name: _path(node) for node in module.graph.nodes}
        self.values: dict[str, np.ndarray] = {}

    def outputs(self, inputs: Arrays, forgiving: bool = False) -> list[np.ndarray]:
        """Return what the network returns, flat; `values` then holds all between.

        `forgiving` gives NaN where PyTorch refuses the values of the inputs, as of boxes.
        """
        self.values = {}
        try:
            with torch.no_grad():
                result = self.run(*(torch.from_numpy(x) for x in self._prepared(inputs)))
        except (RuntimeError, ValueError):
            if not forgiving:
                raise
            return [np.array(np.nan)]
        return _flat(result)

    def in_double(self, inputs: Arrays) -> list[np.ndarray]:
        """Return what the network returns when it computes in float64; NaN where it cannot."""
        try:
            with torch.no_grad():
                module = copy.deepcopy(self.module).double()
                given = (torch.from_numpy(x.astype(np.float64)) for x in self._prepared(inputs))
                return _flat(module(*given))
        except RuntimeError:  # the network itself asks for float32
            return [np.full_like(y, np.nan) for y in self.outputs(inputs)]

    def _prepared(self, inputs: Arrays) -> Arrays:
        """Return copies of inputs, as the network takes them."""
        apply = self.preparation.apply if self.preparation else np.array
        return [apply(x) for x in inputs]

    def run_node(self, n: fx.Node) -> Any:
        """Compute a node; what it returns is copied, for an in-place operator may follow."""
        result = super().run_node(n)
        if n.op == "call_function" and isinstance(result, torch.Tensor):
            self.values[n.name] = result.numpy().copy()
        return result


def _flat(result: Any) -> list[np.ndarray]:
    parts = tuple(result.values()) if isinstance(result, Mapping) else result
    return [y.numpy() for y in (parts if isinstance(parts, tuple | list) else (parts,))]


def _path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    return next(reversed(stack.values()))[0] if stack else ""


def _compare_values(
    found: Mapping[str, np.ndarray], reference: _Recorder
) -> Iterator[tuple[str, float]]:
    """Compare the values that both have, in the order in which PyTorch computes them.

    An operator that became several of ours is left out: capture numbers those after the first,
    and only the last computes what the operator does.
    """
    for name, expected in reference.values.items():
        several = f"{name}.1" in found
        if name in found and found[name].shape == expected.shape and not several:
            yield name, relative_error(found[name], expected)


def _explain(
    number: int, error: float, by_value: Mapping[str, float], paths: Mapping[str, str]
) -> str:
    message = (
        f"{_describe(number)}: the library's outputs differ from PyTorch's by {error:.2g} of the "
        f"largest, where {TOLERANCE:g} is accepted"
    )
    first = next((name for name, e in by_value.items() if not e <= TOLERANCE), None)
    if first is None:
        return f"{message}; every value inside agrees, so that the outputs are at fault"
    return (
        f"{message}; the first to differ is {first} of {paths[first]!r}, by {by_value[first]:.2g}"
    )


def _explain_no_numbers(inputs: str, advice: str) -> str:
    return (
        f"{inputs}: PyTorch's own outputs hold NaN or infinity, so that there is nothing to "
        f"compare with: give {advice}, or mend the network's weights"
    )


def _describe(number: int) -> str:
    return f"random input {number}" if number < RANDOM else f"sample {number - RANDOM}"
