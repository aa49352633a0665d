"""A library against its reference: the same inputs through both, value by value in step."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from math import prod

import numpy as np

from depthwise.compiler.preparation import Preparation
from depthwise.compiler.verification.decisions import SHAKEN, find_undecided, shake_inputs
from depthwise.compiler.verification.difference import Difference, largest_error, relative_error
from depthwise.compiler.verification.references import NOISE, Arrays, Reference
from depthwise.compiler.verification.trace import Piece, Trace
from depthwise.errors import CannotRun, Mismatch, Unsupported
from depthwise.escaping import in_line
from depthwise.graph import TensorType
from depthwise.graph.dtypes import WHOLE_FLOATS
from depthwise.memory import return_free_memory
from depthwise.runtime.manifest import LayerError, Verification

TOLERANCE = 1e-4  # of the largest element
SENSITIVE = 10  # times the reference's own rounding error: untrained networks amplify any rounding
HIDDEN = 1e-2  # of a value inside, where outputs agree: a fault that these inputs do not show
CHAOTIC = 0.1  # of the outputs: where rounding alone moves them so far, nothing is proven
RANDOM = 2  # sets of inputs that we draw ourselves

RunLibrary = Callable[[Arrays], Arrays]  # inputs -> outputs, both in the network's order


def verify(
    run: RunLibrary, trace: Trace, reference: Reference, samples: Sequence[Arrays] = (),
    preparation: Preparation | None = None, exact: bool = False,
) -> Verification:  # fmt: skip
    """Compare a library with the reference of its network, on random inputs and samples.

    `run` is the library's, `trace` the same plan's, step by step. With a `preparation` both take
    raw images, and the reference gets them prepared. Errors are relative to the largest element of
    what the reference computes. It computes each input twice, the second time in step with the
    trace, so that no more is kept than either needs at that moment. With `exact` nothing may differ
    by a bit, outputs nor values inside.

    Raises Mismatch, naming the first value that differs, where an output is off by more than
    TOLERANCE and by more than SENSITIVE times what the reference's own float32 is off its float64,
    elements left out that rounding alone decides (`decisions`), or where a value inside is off by
    more than HIDDEN and by as many times; Unsupported where the reference's two runs differ;
    ValueError for a sample that does not fit, or of which the reference itself makes no numbers.
    """
    types = library_types(reference, preparation)
    _check_samples(samples, types)
    worst: dict[str, float] = {}
    errors: list[float] = []
    own_error: float | None = None
    useless = ""  # why random inputs prove nothing
    for number, given in enumerate(chain(random_inputs(types, preparation), samples)):
        inputs = [preparation.apply(x) for x in given] if preparation else given
        expected = _judge(reference, inputs, number)
        if isinstance(expected, str):
            useless = expected
            continue
        found = run(given)
        errors.append(largest_error(found, expected))
        return_free_memory()  # tenths of a gigabyte, left by the reference's run
        by_value, again = _compare_values(trace, given, reference, inputs)
        if not largest_error(again, expected) <= NOISE:
            raise Unsupported(_explain_no_function(_describe(number), reference, inputs))
        if exact and any((errors[-1], *by_value.values())):
            raise Mismatch(_explain(number, errors[-1], by_value, reference, 0.0))
        if not errors[-1] <= TOLERANCE:
            errors[-1] = _decided_error(found, expected, reference, inputs)
        if not errors[-1] <= TOLERANCE:
            own = largest_error(expected, _outputs_in_double(reference, inputs))
            if np.isfinite(own) and own > CHAOTIC:
                raise Unsupported(_explain_chaos(_describe(number), reference, own))
            if not (np.isfinite(own) and errors[-1] <= SENSITIVE * own):
                _check_whole_numbers(_describe(number), expected)
                raise Mismatch(_explain(number, errors[-1], by_value, reference))
            own_error = max(own, own_error or 0.0)
        if hidden := _hidden_fault(by_value, reference, inputs):
            raise Mismatch(_explain_hidden(number, hidden, by_value, reference))
        worst = {name: max(error, worst.get(name, 0.0)) for name, error in by_value.items()}
    if not errors:
        raise ValueError(f"random inputs: {useless}: give samples that the network is for")
    layers = tuple(
        LayerError(path=in_line(reference.paths[name]), value=name, error=error)
        for name, error in worst.items()
    )
    return Verification(
        inputs=len(errors), error=max(errors), own_error=own_error, layers=layers,
        reference=reference.title,
    )  # fmt: skip


def _judge(reference: Reference, inputs: Arrays, number: int) -> list[np.ndarray] | str:
    """Return the reference's outputs, or why random inputs have none to compare with.

    The network may not be meant for these, as a logarithm is not, or boxes, or rows of a table.
    """
    try:
        outputs = reference.start(inputs).outputs()
    except CannotRun as error:
        reason = str(error)
    else:
        if are_numbers(outputs):
            return outputs
        reason = (
            f"{reference.title}'s own outputs hold NaN, or infinities alone, so that there is "
            "nothing to compare with; mend the network's weights if these are at fault"
        )
    if number < RANDOM:
        return reason
    raise ValueError(f"{_describe(number)}: {reason}: give other samples")


def _outputs_in_double(reference: Reference, inputs: Arrays) -> list[np.ndarray]:
    """Return the reference's outputs, computed in float64; NaN where it cannot."""
    try:
        return reference.start(inputs, double=True).outputs()
    except CannotRun:
        return [np.array(np.nan)]


def _decided_error(found: Arrays, expected: Arrays, reference: Reference, inputs: Arrays) -> float:
    """Return the largest error of an output, elements left out that rounding alone decides.

    Where these are many they are not left out.
    """
    undecided = find_undecided(reference, inputs, expected, TOLERANCE)
    few = all(mask.mean() <= CHAOTIC for mask in undecided if mask.size)
    decided = [
        np.where(mask & few, y, x) for x, y, mask in zip(found, expected, undecided, strict=True)
    ]
    return largest_error(decided, expected)


def _own_errors(
    reference: Reference, inputs: Arrays, names: Collection[str], shaken: int = 0
) -> dict[str, float]:
    """Return how far values in float32 are from those in float64, or of weights that are moved.

    Those that cannot be had are left out.
    """
    moved = shake_inputs(inputs, shaken) if shaken else inputs
    runs = (
        reference.start(inputs, names),
        reference.start(moved, names, double=not shaken, shaken=shaken),
    )
    found: dict[str, float] = {}
    try:
        for name in names:
            value, other = (run.value(name) for run in runs)
            if value is not None and other is not None:
                found[name] = relative_error(value, other)
            for run in runs:
                run.drop(name)
    except CannotRun:
        return {}
    return found


def are_numbers(outputs: Arrays) -> bool:
    """Tell whether outputs prove anything: no NaN, and finite numbers, infinities beside them.

    An infinity is compared as a number is, with its sign and its place: a mask may be returned.
    """
    whole = not any(np.isnan(y).any() for y in outputs)
    return whole and any(not y.size or np.isfinite(y).any() for y in outputs)


def library_types(reference: Reference, preparation: Preparation | None) -> list[TensorType]:
    """Return the types that the library takes: of raw images, where it prepares them itself."""
    if preparation:
        shapes = (preparation.raw_shape(type_.shape) for type_ in reference.types)
        return [TensorType(shape, preparation.dtype) for shape in shapes]
    return list(reference.types)


def _check_samples(samples: Sequence[Arrays], expected: Sequence[TensorType]) -> None:
    """Raise ValueError where a sample has other shapes or types of elements than are taken."""
    shapes = [type_.shape for type_ in expected]
    for i, sample in enumerate(samples):
        found = [x.shape for x in sample]
        if found != shapes:
            raise ValueError(
                f"sample {i} has the shapes {found}: the network takes inputs of {shapes}"
            )
        for x, type_ in zip(sample, expected, strict=True):
            if str(x.dtype) != type_.dtype:
                raise ValueError(
                    f"sample {i} is {x.dtype}: the library takes {type_.dtype}, convert it"
                )


def random_inputs(types: Sequence[TensorType], preparation: Preparation | None) -> Iterator[Arrays]:
    """Draw numbers of each type, or images of noise where they are prepared; always the same."""
    random = np.random.default_rng(0)
    for _ in range(RANDOM):
        yield [
            preparation.draw(random, type_.shape)
            if preparation
            else type_.element.draw(random, type_.shape)
            for type_ in types
        ]


def _check_whole_numbers(inputs: str, expected: Arrays) -> None:
    """Raise Unsupported where the reference returns integers that float32 does not hold."""
    whole = (y for y in expected if y.dtype.kind in "iu" and y.size)
    largest = max((max(int(y.max()), -int(y.min())) for y in whole), default=0)
    if largest > WHOLE_FLOATS:
        raise Unsupported(
            f"{inputs}: the network returns whole numbers up to {largest:,}: libraries compute in "
            f"float32, which holds them up to {WHOLE_FLOATS:,} exactly; keep larger ones outside "
            "of the network"
        )


def _hidden_fault(
    by_value: Mapping[str, float], reference: Reference, inputs: Arrays
) -> str | None:
    """Return the first value inside that is wrong though the outputs agree, None where none is.

    An activation may make up for it, or a factor of nearly 0. Of a value that should be 0 all over
    there is no telling what of it is rounding: its error is infinite, and so no proof.
    """
    doubtful = [name for name, error in by_value.items() if HIDDEN < error < np.inf]
    for shaken in range(SHAKEN + 1):  # in double precision, then moved
        if doubtful:
            own = _own_errors(reference, inputs, doubtful, shaken)
            doubtful = [n for n in doubtful if not by_value[n] <= SENSITIVE * own.get(n, 0.0)]
    return doubtful[0] if doubtful else None


def _compare_values(
    trace: Trace, given: Arrays, reference: Reference, inputs: Arrays
) -> tuple[dict[str, float], list[np.ndarray]]:
    """Return the error of each value that both have, in the reference's order, and its outputs."""
    following = reference.start(inputs, trace.values)
    found: dict[str, Difference] = {}

    def look(piece: Piece, values: np.ndarray) -> None:
        name, elements = piece.value, piece.elements
        expected = following.value(name)
        if expected is not None and expected.size == prod(elements.shape):
            if name not in found:
                found[name] = Difference(expected)  # which looks at all of it
            found[name].add(values, expected.reshape(elements.shape)[elements.index])
        if piece.last:
            following.drop(name)
        del expected
        following.value(piece.next)  # the reference goes first, while the library needs no memory

    trace(given, look)
    outputs = following.outputs()
    return {name: found[name].error for name in reference.paths if name in found}, outputs


def _first_to_differ(reference: Reference, inputs: Arrays) -> str | None:
    """Return the name of the first value that is another when it is computed once more."""
    one, other = (reference.start(inputs, reference.paths) for _ in range(2))
    for name in reference.paths:
        first, second = one.value(name), other.value(name)
        if first is not None and second is not None and first.tobytes() != second.tobytes():
            return name
        for run in (one, other):
            run.drop(name)
    return None


def _explain(
    number: int, error: float, by_value: Mapping[str, float], reference: Reference,
    accepted: float = TOLERANCE,
) -> str:  # fmt: skip
    message = (
        f"{_describe(number)}: the library's outputs differ from {reference.title}'s by "
        f"{error:.2g} of the largest, where {accepted:g} is accepted"
    )
    first = next((name for name, e in by_value.items() if not e <= accepted), None)
    if first is None:
        return f"{message}; every value inside agrees, so that the outputs are at fault"
    where = f"{first} of {reference.paths[first]!r}"
    return f"{message}; the first to differ is {where}, by {by_value[first]:.2g}"


def _explain_hidden(
    number: int, value: str, by_value: Mapping[str, float], reference: Reference
) -> str:
    return (
        f"{_describe(number)}: the library's outputs agree with {reference.title}'s, but inside, "
        f"{value} of {reference.paths[value]!r} differs by {by_value[value]:.2g} of its largest: "
        "other inputs would show it"
    )


def _explain_no_function(inputs: str, reference: Reference, values: Arrays) -> str:
    message = (
        f"{inputs}: the network is no function of its inputs, for {reference.title} computes other "
        "outputs when it runs a second time"
    )
    first = _first_to_differ(reference, values)
    if first:
        message += f"; the first to differ is {first} of {reference.paths[first]!r}"
    return f"{message}: take what is random or remembers earlier calls out of its forward"


def _explain_chaos(inputs: str, reference: Reference, own: float) -> str:
    return (
        f"{inputs}: rounding alone decides what the network returns, for {reference.title}'s "
        f"float32 is off its float64 by {own:.2g} of the largest output, so that no library can be "
        "verified: scale what it subtracts or divides, or give it trained weights"
    )


def _describe(number: int) -> str:
    return f"random input {number}" if number < RANDOM else f"sample {number - RANDOM}"
