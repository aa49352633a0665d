"""How far a library of a narrow precision is from the network in float32, and whether it agrees."""

from collections.abc import Callable, Sequence
from itertools import chain

from depthwise.compiler.preparation import Preparation
from depthwise.compiler.verification.difference import largest_error
from depthwise.compiler.verification.references import Arrays, Reference
from depthwise.compiler.verification.verify import are_numbers, library_types, random_inputs
from depthwise.errors import CannotRun
from depthwise.runtime.manifest import Distance


def measure_distance(
    run: Callable[[Arrays], Arrays], reference: Reference, samples: Sequence[Arrays] = (),
    preparation: Preparation | None = None,
) -> Distance | None:  # fmt: skip
    """Return how far outputs are from the reference's, on the inputs that verification takes.

    None where the reference computes no numbers from any of them.
    """
    errors, same, count = [], 0, 0
    types = library_types(reference, preparation)
    for given in chain(random_inputs(types, preparation), samples):
        inputs = [preparation.apply(x) for x in given] if preparation else given
        try:
            expected = reference.start(inputs).outputs()
        except CannotRun:
            continue
        if not are_numbers(expected):
            continue
        found = run(given)
        errors.append(largest_error(found, expected))
        for one, other in zip(found, expected, strict=True):
            if one.ndim == 2 and one.shape[1] > 1 and one.dtype.kind == "f":
                same += int((one.argmax(1) == other.argmax(1)).sum())
                count += len(one)
    if not errors:
        return None
    return Distance(
        reference=reference.title, inputs=len(errors), error=max(errors),
        agreement=same / count if count else None,
    )  # fmt: skip
