"""How a network is compiled: one value, one set of defaults, for Python and the command line."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral
from os import PathLike, fspath
from typing import TYPE_CHECKING, Literal, get_args

from depthwise.runtime.target import BEST, System, Target, find_target

if TYPE_CHECKING:
    from depthwise.hardware.core import Core

Optimize = Literal["speed", "memory"]
Precision = Literal["float32", "bfloat16", "float16"]
AskedPrecision = Literal[Precision, "int8", "auto"]  # of `dw.compile`, which has the last two
INT8 = "int8"  # of quantised networks, whose graphs say it themselves
StoredWeights = Literal["float32", "float16"]

MOST_THREADS = 64


@dataclass(frozen=True)
class CompileOptions:
    """How a library is built. Raises ValueError for options that no library can have.

    Attributes:
        target: The CPU to compile for, by its name; "native" is the widest that this machine runs.
        threads: How many threads share each call, 1 to 64.
        optimize: What for: "speed", or "memory" for the smallest arena.
        tune: Measure a few ways to compute each layer on this machine, and take the fastest. That
            takes tens of seconds where these layers were not measured before, and gains 1 to 2 % on
            CPUs that the defaults were chosen on, so that it is left out unless asked for.
            Nothing is measured for another target, or for the smallest arena.
        tune_for: The core whose caches and speeds the plan is made for: the name of a known one,
            "native" (this machine's), "calibrated" (the same, as `depthwise calibrate` found it) or
            "generic" (any CPU of the target). None is "native" for the target of that name, else
            the generic one.
        cc: A C compiler, by name or path; None takes the one that is installed with us.
        check_plan: Do the plan in Python, step by step, where this machine cannot run the library.
        system: The operating system to compile for: "linux", "windows" or "macos"; None is this
            machine's, and Linux for another architecture.
        precision: The type that values between layers and weights are kept and multiplied in; sums
            are in float32, but for those of float16 where the target computes in halves. Layers
            that have no kernel in a narrower type are computed in float32, and so are those whose
            numbers it cannot hold. "native" is then the CPU of this machine that is best at it.
        stored_weights: The type that weights are stored in where a layer waits for them, linear
            layers and gates; they are computed with in float32.
    """

    target: str = "native"
    threads: int = 1
    optimize: Optimize = "speed"
    tune: bool = False
    tune_for: str | None = None
    cc: str | None = None
    check_plan: bool = True
    system: System | None = None
    precision: Precision = "float32"
    stored_weights: StoredWeights = "float32"

    def __post_init__(self):
        if self.precision not in get_args(Precision):
            *others, last = get_args(Precision)
            raise ValueError(
                f"precision={self.precision!r}: compute in {', '.join(others)} or {last}; "
                "`dw.compile` has int8 and auto as well, with data=images"
            )
        if self.stored_weights not in get_args(StoredWeights):
            accepted = " or ".join(get_args(StoredWeights))
            raise ValueError(f"stored_weights={self.stored_weights!r}: store them in {accepted}")
        if self.precision != "float32" and self.stored_weights != "float32":
            raise ValueError(
                f"stored_weights={self.stored_weights!r} with precision={self.precision!r}, which "
                "has its own weights in that type: leave one of them out"
            )
        target = self.chosen
        whole = isinstance(self.threads, Integral) and not isinstance(self.threads, bool)
        if not whole or not 1 <= self.threads <= MOST_THREADS:
            raise ValueError(
                f"threads={self.threads!r}: a library runs on 1 to {MOST_THREADS} threads"
            )
        object.__setattr__(self, "threads", int(self.threads))  # NumPy's numbers, too
        if self.threads > 1 and target.architecture == "wasm32":
            raise ValueError(f"threads={self.threads}: {target.name} has no threads; leave it at 1")
        if self.optimize not in get_args(Optimize):
            accepted = " or ".join(get_args(Optimize))
            raise ValueError(f"optimize={self.optimize!r}: optimize for {accepted}")
        for name in ("tune", "check_plan"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r}: True or False")
        if isinstance(self.cc, PathLike):
            object.__setattr__(self, "cc", fspath(self.cc))
        if not isinstance(self.tune_for, str | None):
            raise ValueError(f"tune_for={self.tune_for!r}: the name of a core, as text")
        _ = self.core
        if not isinstance(self.cc, str | None):
            raise ValueError(f"cc={self.cc!r}: the name or the path of a C compiler, as text")
        if self.reduced:
            self._check_reduced()

    def _check_reduced(self) -> None:
        """Raise ValueError for what there is in float32 alone."""
        name = self.narrowing
        if self.tune:
            raise ValueError(
                f"tune=True with {name}: ways are timed in float32 alone, leave it out"
            )
        if self.chosen.members:
            levels = ", ".join(level.name for level in self.chosen.levels)
            raise ValueError(
                f"target={self.target!r} with {name}: a library for a family of CPUs computes in "
                f"float32; compile for one of them, {levels}"
                + "".join(f", or for {best.name}" for best in BEST.get(self.precision, ())[:1])
            )

    @property
    def reduced(self) -> bool:
        """Whether values or weights are kept in a type narrower than float32."""
        return self.precision != "float32" or self.stored_weights != "float32"

    @property
    def narrowing(self) -> str:
        """Which option asks for that, as it is given."""
        name = "precision" if self.precision != "float32" else "stored_weights"
        return f"{name}={getattr(self, name)!r}"

    @property
    def chosen(self) -> Target:
        """The target itself: "native" is one of the others."""
        better = BEST.get(self.precision, ()) if self.target == "native" else ()
        best = next((target.name for target in better if target.runs_here), self.target)
        return find_target(best, self.system)

    @property
    def here(self) -> "CompileOptions":
        """These options for the one CPU of a family whose code this machine runs."""
        return replace(self, target=self.chosen.level_here.name) if self.chosen.members else self

    @property
    def core(self) -> "Core":
        """The core that the plan is made for."""
        from depthwise.hardware.choice import choose_core  # noqa: PLC0415  (the command line waits)

        return choose_core(self.tune_for, self.chosen, self.target == "native")

    @property
    def measures(self) -> bool:
        """Whether ways are timed: it is asked for, and means something, for speed on this CPU."""
        return self.tune and self.optimize == "speed" and self.chosen == find_target("native")


# What a target computes faster in than in float32; a type that is not here is on every target.
FASTER: dict[str, Callable[[Target], bool]] = {
    "bfloat16": lambda target: target.tiles, "float16": lambda target: target.halves,
}  # fmt: skip


def not_faster(precision: str, target: Target) -> str:
    """Return, in words, that a precision takes no less time than float32 on a target; else ""."""
    if precision not in FASTER or FASTER[precision](target):
        return ""
    return f"{precision} is not faster than float32 on {target.name}"
