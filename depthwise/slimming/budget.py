"""What a slimmed network may cost: a number and what it is of."""

import math
import re
from dataclasses import dataclass
from typing import Self

from depthwise.escaping import kind_of
from depthwise.report.slimming_record import MEASURES, SAID, Measure, say_cost

COUNTS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
BYTES = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20}
TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}
# What may stand after a number, or after a share, to say what it is of.
WORDS: dict[str, Measure] = {
    "macs": "macs", "parameters": "parameters", "params": "parameters",
    "weights": "weight_bytes", "arena": "arena_bytes", "ms": "milliseconds",
    "milliseconds": "milliseconds", "time": "milliseconds",
}  # fmt: skip
ACCEPTED = (
    'multiply-adds ("150M"), parameters ("1.5M parameters"), bytes of weights ("3MB"), bytes of '
    'arena ("200kB arena"), a time ("2ms"), or a share of what the network costs now ("25%" of its '
    'MACs; "25% parameters", "25% weights", "25% arena", "25% ms")'
)


@dataclass(frozen=True)
class Budget:
    """What a network may cost at most, by one measure. Raises ValueError for what is no budget.

    Attributes:
        macs: Multiply-adds of convolutions and linear layers.
        parameters: As `dw.cost` counts them.
        weight_bytes: Parameters as stored.
        arena_bytes: What the compiled library needs for activations.
        milliseconds: One image, one thread, the compiled library.
        relative: Whether the number is a share of what the network costs as it is.
    """

    macs: float | None = None
    parameters: float | None = None
    weight_bytes: float | None = None
    arena_bytes: float | None = None
    milliseconds: float | None = None
    relative: bool = False

    def __post_init__(self):
        given = [name for name in MEASURES if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "nothing"
            raise ValueError(
                f"a budget is of one measure, of {', '.join(MEASURES)}, and this is of {found}: "
                "give one; after it is met, slim the result to the next"
            )
        value = self.value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:
            raise ValueError(f"a budget of {given[0]}={value!r}: a number above 0 is accepted")
        if self.relative and value >= 1:
            raise ValueError(
                f"a budget of {100 * value:g} % of what the network costs now is met already: a "
                "share below 100 % is accepted"
            )

    @classmethod
    def of(cls, measure: Measure, value: float, relative: bool = False) -> Self:
        """Return a budget of a measure that is known by its name."""
        return cls(**{measure: value, "relative": relative})  # type: ignore[arg-type]

    @classmethod
    def read(cls, given: "str | Budget") -> "Budget":
        """Return what a text means: "2ms", "150M", "3MB", "25%", "25% ms".

        Raises ValueError for any other, with all that is accepted.
        """
        if isinstance(given, Budget):
            return given
        if not isinstance(given, str):
            raise ValueError(f"budget is {kind_of(given)}: give a dw.Budget or a text: {ACCEPTED}")
        found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(%|[A-Za-z]*)\s*([A-Za-z]*)\s*", given)
        if not found:
            raise ValueError(f"budget {given!r}: accepted are {ACCEPTED}")
        number, unit, word = float(found[1]), found[2], found[3].lower()
        if unit.lower() in WORDS and not word and unit not in TIMES:  # no unit: "5000 parameters"
            unit, word = "", unit.lower()
        measure, factor = _meant(given, unit, word)
        return cls.of(measure, number * factor, unit == "%")

    @property
    def measure(self) -> Measure:
        """What it is of."""
        return next(name for name in MEASURES if getattr(self, name) is not None)

    @property
    def value(self) -> float:
        """Its number: a share where it is relative."""
        return getattr(self, self.measure)

    def limit(self, original: float) -> float:
        """Return what may be spent by a network that costs `original` as it is."""
        return self.value * original if self.relative else self.value

    def __str__(self) -> str:
        """Return it in words: 2.00 ms, 25 % of the MACs."""
        if not self.relative:
            return say_cost(self.measure, self.value)
        what: dict[Measure, str] = {"weight_bytes": "weights", "arena_bytes": "arena"}
        said = what.get(self.measure, SAID[self.measure] or "time")
        return f"{100 * self.value:g} % of the {said}"


def _meant(text: str, unit: str, word: str) -> tuple[Measure, float]:
    """Return what a unit and a word are of, and the factor of the unit. Raises ValueError."""
    said: Measure | None = WORDS.get(word)
    kind: Measure | None = None
    factor = 0.0
    if unit == "%":
        kind, factor = said or "macs", 0.01
    elif unit in TIMES:
        kind, factor = "milliseconds", TIMES[unit]
    elif unit in BYTES:
        kind, factor = "arena_bytes" if said == "arena_bytes" else "weight_bytes", BYTES[unit]
    elif unit in COUNTS and (unit or word):
        kind, factor = "parameters" if said == "parameters" else "macs", COUNTS[unit]
    if kind is None or (word and said != kind):
        hint = " FLOPs are 2 x MACs: give MACs." if "flop" in text.lower() else ""
        raise ValueError(f"budget {text!r}:{hint} accepted are {ACCEPTED}")
    return kind, factor
