"""The names of a classifier's classes, held to the network that they are for."""

from collections.abc import Sequence


def check_labels(labels: Sequence[str], shapes: Sequence[tuple[int, ...]], origin: str) -> None:
    """Raise ValueError where there is not one name for each class of outputs of `shapes`."""
    match shapes:
        case [(_, classes)] if classes == len(labels):
            return
        case [(_, classes)]:
            raise ValueError(
                f"{origin}: {len(labels)} names for a network of {classes} classes: there must be "
                "one for each, in the order of its outputs"
            )
    found = " and ".join("x".join(map(str, shape)) for shape in shapes)
    raise ValueError(f"{origin}: the network returns {found}: classes are named of (N, CLASSES)")
