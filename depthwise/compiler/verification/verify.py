"""The library against PyTorch: the same inputs through both, value by value in step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from math import prod
from typing import Protocol

import numpy as np
from torch.export import ExportedProgram

from depthwise.compiler.preparation import Preparation
from depthwise.compiler.verification.capacity import return_free_memory
from depthwise.compiler.verification.difference import Difference, largest_error
from depthwise.compiler.verification.reference import NOISE, Following, Reference
from depthwise.compiler.verification.trace import Look, Piece
from depthwise.escaping import in_line
from depthwise.graph import Unsupported
from depthwise.runtime.manifest import LayerError, Verification

TOLERANCE = 1e-4  # of the largest element
SENSITIVE = 10  # times PyTorch's own rounding error: deep untrained networks amplify any rounding
HIDDEN = 1e-2  # of a value inside, where outputs agree: a fault that these inputs do not show
CHAOTIC = 0.1  # of the outputs: where PyTorch's rounding moves them so far, nothing is proven
RANDOM = 2  # sets of inputs that we draw ourselves

Arrays = Sequence[np.ndarray]
Run = Callable[[Arrays], Arrays]  # inputs -> outputs, both in the network's order


class Trace(Protocol):
    """A run of the library that shows what it computes on the way; `values` names what it shows."""

    values: frozenset[str]

    def __call__(self, inputs: Arrays, look: Look) -> None:
        """Run on inputs and call `look` with each piece of a value as it is computed."""


class Mismatch(Exception):  # noqa: N818  (what is wrong is the library, and it says where)
    """A library computes something else than PyTorch: the message names the first layer."""


def verify(
    run: Run, trace: Trace, program: ExportedProgram, samples: Sequence[Arrays] = (),
    preparation: Preparation | None = None,
) -> Verification:  # fmt: skip
    """Compare a library with the program that it was compiled from, on random inputs and samples.

    `run` is the library's, `trace` the same plan's step by step. With a `preparation`
    both take raw images, and PyTorch gets them prepared. Errors are relative to
    the largest element of what PyTorch computes. PyTorch runs each input twice, the second time
    in step with the trace, so that no more is kept than either has at hand.

    Raises Mismatch, naming the first value that differs, where an output is off by more than
    TOLERANCE and by more than SENSITIVE times what PyTorch's own float32 is off its float64, or
    where a value inside is off by more than HIDDEN and by as many times; Unsupported where
    PyTorch's two runs differ; ValueError for a sample that does not fit, or that PyTorch itself
    makes no numbers of.
    """
    reference = Reference(program, preparation)
    _check_samples(samples, reference)
    worst: dict[str, float] = {}
    errors: list[float] = []
    own_error: float | None = None
    for number, inputs in enumerate(chain(_random_inputs(reference), samples)):
        expected = _judge(reference, inputs, forgiving=number < RANDOM)
        if not _are_numbers(expected):
            if number < RANDOM:
                continue  # a logarithm, say: the network is not meant for such inputs
            raise ValueError(_explain_no_numbers(_describe(number), "other samples"))
        errors.append(largest_error(run(inputs), expected))
        return_free_memory()  # tenths of a gigabyte, left by PyTorch's run
        by_value, again = _compare_values(trace, reference, inputs)
        if not largest_error(again, expected) <= NOISE:
            raise Unsupported(_explain_no_function(_describe(number), reference, inputs))
        if not errors[-1] <= TOLERANCE:
            own = largest_error(expected, reference.outputs_in_double(inputs))
            if np.isfinite(own) and own > CHAOTIC:
                raise Unsupported(_explain_chaos(_describe(number), own))
            if not (np.isfinite(own) and errors[-1] <= SENSITIVE * own):
                raise Mismatch(_explain(number, errors[-1], by_value, reference.paths))
            own_error = max(own, own_error or 0.0)
        if hidden := _hidden_fault(by_value, reference, inputs):
            raise Mismatch(_explain_hidden(number, hidden, by_value, reference.paths))
        worst = {name: max(error, worst.get(name, 0.0)) for name, error in by_value.items()}
    if not errors:
        raise ValueError(_explain_no_numbers("random inputs", "samples that the network is for"))
    layers = tuple(
        LayerError(path=in_line(reference.paths[name]), value=name, error=error)
        for name, error in worst.items()
    )
    return Verification(inputs=len(errors), error=max(errors), own_error=own_error, layers=layers)


def _judge(reference: Reference, inputs: Arrays, forgiving: bool) -> list[np.ndarray]:
    """Return PyTorch's outputs.

    `forgiving` gives NaN where PyTorch refuses the values of the inputs, as of boxes.
    """
    try:
        return reference.outputs(inputs)
    except (RuntimeError, ValueError):
        if not forgiving:
            raise
        return [np.array(np.nan)]


def _are_numbers(outputs: Arrays) -> bool:
    """Tell whether outputs prove anything: no NaN, and finite numbers, infinities beside them.

    An infinity is compared as a number is, with its sign and its place: a mask may be returned.
    """
    whole = not any(np.isnan(y).any() for y in outputs)
    return whole and any(not y.size or np.isfinite(y).any() for y in outputs)


def _check_samples(samples: Sequence[Arrays], reference: Reference) -> None:
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


def _random_inputs(reference: Reference) -> Iterator[Arrays]:
    """Draw standard normal inputs, or images of noise where they are prepared; always the same."""
    random, preparation = np.random.default_rng(0), reference.preparation
    for _ in range(RANDOM):
        yield [
            preparation.draw(random, shape)
            if preparation
            else random.standard_normal(shape, np.float32)
            for shape in reference.shapes
        ]


def _hidden_fault(
    by_value: Mapping[str, float], reference: Reference, inputs: Arrays
) -> str | None:
    """Return the first value inside that is wrong though the outputs agree, None where none is.

    An activation may make up for it, or a factor of nearly 0. Of a value that should be 0 all over
    there is no telling what of it is rounding: its error is infinite, and so no proof.
    """
    doubtful = [name for name, error in by_value.items() if HIDDEN < error < np.inf]
    own = reference.own_errors(inputs, doubtful) if doubtful else {}
    return next((n for n in doubtful if not by_value[n] <= SENSITIVE * own.get(n, 0.0)), None)


def _compare_values(
    trace: Trace, reference: Reference, inputs: Arrays
) -> tuple[dict[str, float], list[np.ndarray]]:
    """Return the error of each value that both have, in PyTorch's order, and PyTorch's outputs."""
    following = Following(reference, inputs, trace.values)
    found: dict[str, Difference] = {}

    def look(piece: Piece, values: np.ndarray) -> None:
        name, elements = piece.value, piece.elements
        expected = following.value(name)
        if expected is not None and expected.size == prod(elements.shape):
            difference = found.setdefault(name, Difference(expected))
            difference.add(values, expected.reshape(elements.shape)[elements.index])
        if piece.last:
            following.drop(name)
        del expected
        following.value(piece.next)  # PyTorch goes first, while the library has no memory for it

    trace(inputs, look)
    outputs = following.outputs()
    return {name: found[name].error for name in reference.paths if name in found}, outputs


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


def _explain_hidden(
    number: int, value: str, by_value: Mapping[str, float], paths: Mapping[str, str]
) -> str:
    return (
        f"{_describe(number)}: the library's outputs agree with PyTorch's, but inside, {value} of "
        f"{paths[value]!r} differs by {by_value[value]:.2g} of its largest: other inputs would "
        "show it"
    )


def _explain_no_function(inputs: str, reference: Reference, values: Arrays) -> str:
    message = (
        f"{inputs}: the network is no function of its inputs, for PyTorch computes other outputs "
        "when it runs a second time"
    )
    first = reference.first_to_differ(values)
    if first:
        message += f"; the first to differ is {first} of {reference.paths[first]!r}"
    return f"{message}: take what is random or remembers earlier calls out of its forward"


def _explain_chaos(inputs: str, own: float) -> str:
    return (
        f"{inputs}: rounding alone decides what the network returns, for PyTorch's float32 is off "
        f"its float64 by {own:.2g} of the largest output, so that no library can be verified: "
        "scale what it subtracts or divides, or give it trained weights"
    )


def _explain_no_numbers(inputs: str, advice: str) -> str:
    return (
        f"{inputs}: PyTorch's own outputs hold NaN, or infinities alone, so that there is nothing "
        f"to compare with: give {advice}, or mend the network's weights"
    )


def _describe(number: int) -> str:
    return f"random input {number}" if number < RANDOM else f"sample {number - RANDOM}"
