"""What a library is asked to compute in, and what that is judged by."""

from dataclasses import dataclass
from numbers import Real
from typing import Any, get_args

import numpy as np

from depthwise.compiler.options import INT8, AskedPrecision
from depthwise.graph import Shape
from depthwise.progress import Say, silent

AUTO = "auto"
AGREEMENT = 0.99  # of images: what a precision that is chosen keeps unless another share is given
NOISE = 64  # images that precisions are judged on where none are given
NO_DATA = (
    "int8 needs images like those that it is for, to draw the ranges of its values from: give "
    "labelled ones as `depthwise train` takes them, or a folder of images, some hundred (--data "
    "FOLDER); --data bundled takes those that come with depthwise"
)
NO_INT8 = (
    f"{NO_DATA}; or quantise it once, by `depthwise quantize NETWORK --data FOLDER --out "
    "DIRECTORY`, and name quantized:DIRECTORY instead"
)


@dataclass(frozen=True, eq=False)
class PrecisionRequest:
    """In what a library computes. Raises ValueError for what makes no sense together.

    Attributes:
        precision: A type of the compiler's, int8 (the network is quantised), or auto: the fastest
            of all of them that keeps the class of enough images.
        data: Images like those that it is for, as `dw.quantize` takes them: int8 needs them, and
            auto is judged on some of them.
        agreement: The share of images in which the class stays what it is in float32. In int8
            layers are kept in float32 until it is met; None there for no such goal, in auto for
            AGREEMENT.
        tell: Is told, in sentences, how it goes.
    """

    precision: AskedPrecision = "float32"
    data: Any = None
    agreement: float | None = None
    tell: Say = silent

    def __post_init__(self):
        accepted = get_args(AskedPrecision)
        if self.precision not in accepted:
            names = f"{', '.join(accepted[:-1])} or {accepted[-1]}"
            raise ValueError(f"precision={self.precision!r}: compute in {names}")
        if self.agreement is not None:
            check_agreement(self.agreement)
        if self.calibrates:
            return
        for name, value in (("data", self.data), ("agreement", self.agreement)):
            if value is not None:
                raise ValueError(
                    f"{name} with precision={self.precision!r}: it is for {INT8} and {AUTO}, leave "
                    "it out"
                )

    @property
    def calibrates(self) -> bool:
        """Whether images decide what is computed."""
        return self.precision in (INT8, AUTO)

    @property
    def goal(self) -> float:
        """The share of images in which a precision that is chosen keeps the class."""
        return AGREEMENT if self.agreement is None else self.agreement


def noise(shape: Shape) -> tuple[str, np.ndarray]:
    """Return images of noise for inputs of a shape (N, C, H, W), any number, and their name."""
    drawn = np.random.default_rng(0).standard_normal((NOISE, *shape[1:]), np.float32)
    return f"{NOISE} images of noise", drawn


def check_agreement(share: Any) -> None:
    """Raise ValueError for what is no share of images."""
    number = isinstance(share, Real) and not isinstance(share, bool)
    if not number or not 0 < float(share) <= 1:
        raise ValueError(
            f"agreement={share!r}: a share of images is accepted, above 0 and up to 1, as 0.99"
        )
