"""The road to eight bits: each step is judged on held-out images, and taken back where it harms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

from torch import Tensor

from depthwise.graph import Graph
from depthwise.progress import Say
from depthwise.quantization.correction import (
    LayerFit,
    correct_bias,
    correct_scale,
    fit_layers,
    fit_rounding,
    nearest,
)
from depthwise.quantization.equalisation import equalise
from depthwise.quantization.insertion import Encoding
from depthwise.quantization.judging import HeldOut, LayerNoise, QuantizationError, keep_layers
from depthwise.quantization.placement import place
from depthwise.quantization.preparing import prepare
from depthwise.quantization.ranges import OBSERVERS, Observation, choose_ranges
from depthwise.quantization.running import observe

BYTES = 2 << 30  # what values of a layer may take while layers are fitted
ALIVE = 6  # values that are needed at once, about
MOST_KEPT = 0.25  # of the layers that may be kept in float32 to meet a goal

CORRECTIONS: Mapping[str, LayerFit] = {
    "bias": correct_bias, "scale": correct_scale, "rounding": fit_rounding,
}  # fmt: skip
STEPS = ("equalise", *CORRECTIONS)


@dataclass(frozen=True)
class QuantizationPlan:
    """What is to be done.

    Attributes:
        observer: How ranges are drawn, one of `OBSERVERS`; None tries all.
        steps: What follows, some of `STEPS`.
        goal: The share of images in which the highest score must be the same; None for none, as
            for a network that gives no scores.
        kept: Layers that are computed in float32, by the name of their node.
        scores: Whether the network returns scores of classes.
    """

    observer: str | None = None
    steps: tuple[str, ...] = STEPS
    goal: float | None = None
    kept: frozenset[str] = frozenset()
    scores: bool = True


@dataclass(frozen=True)
class QuantizationStep:
    """What a step came to.

    Attributes:
        name: The step, or the observer.
        error: What held-out images show after it.
        taken: Whether it stays: it is taken back where the divergence was less before it.
        seconds: How long it took.
    """

    name: str
    error: QuantizationError
    taken: bool
    seconds: float


@dataclass(frozen=True, eq=False)
class QuantizationOutcome:
    """A quantised network, and how it came about.

    Attributes:
        encoding: The network.
        steps: All steps, in order.
        error: What held-out images show of it.
        layers: What rounding does to each layer.
    """

    encoding: Encoding
    steps: tuple[QuantizationStep, ...]
    error: QuantizationError
    layers: tuple[LayerNoise, ...]


Improves = Callable[[QuantizationError, QuantizationError], bool]


def diverges_less(error: QuantizationError, best: QuantizationError) -> bool:
    """Tell whether scores are closer to the original's."""
    return error.nats < best.nats


def agrees_more(error: QuantizationError, best: QuantizationError) -> bool:
    """Tell whether more classes are the original's, or as many where scores are closer to it."""
    assert error.agreement is not None
    assert best.agreement is not None
    return (error.agreement, -error.nats) > (best.agreement, -best.nats)


class Road:
    """A network on its way to eight bits.

    Attributes:
        graph: The network with its BatchNorms folded.
        plan: What is to be done.
        held: The images that are held out.
        judge: What tells how far it is from the original.
    """

    def __init__(
        self, graph: Graph, images: Tensor, held: Tensor, plan: QuantizationPlan, tell: Say
    ):
        """Begin. Raises ValueError where there is nothing to quantise, or images do not fit."""
        self.graph, self.plan, self.held = prepare(graph), plan, held
        self._images, self._tell = images, tell
        if not place(self.graph, plan.kept).layers:
            raise ValueError(
                "the network has no convolution or linear layer with weights of its own: there is "
                "nothing to quantise"
            )
        self.judge = HeldOut(self.graph, held, plan.scores)
        self._steps: list[QuantizationStep] = []
        self._best: tuple[QuantizationError, Encoding] | None = None

    def run(self) -> QuantizationOutcome:
        """Return the network in eight bits. Raises ValueError where the goal is not met."""
        observer, seen = self._ranges()
        if "equalise" in self.plan.steps:
            self._equalise(observer, seen)
        for name, fit in CORRECTIONS.items():
            if name in self.plan.steps and self.error.nats > 0:
                self._try(name, lambda fit=fit: fit_layers(self.encoding, self._fitted(), fit))
        layers = self.judge.layers(self.encoding)
        if self.plan.goal is not None and not self.error.agrees(self.plan.goal):
            self._keep(layers, self.plan.goal)
            layers = self.judge.layers(self.encoding)
        return QuantizationOutcome(self.encoding, tuple(self._steps), self.error, layers)

    @property
    def unrounded(self) -> Encoding:
        """The network in real numbers."""
        return Encoding(self.graph, kept=frozenset(node.name for node in self.graph))

    @property
    def encoding(self) -> Encoding:
        """The best so far."""
        assert self._best
        return self._best[1]

    @property
    def error(self) -> QuantizationError:
        """What the best so far comes to."""
        assert self._best
        return self._best[0]

    def _ranges(self) -> tuple[str, Mapping[str, Observation]]:
        """Choose how ranges are drawn; return that, and what was seen."""
        placed = place(self.graph, self.plan.kept)
        seen = observe(placed, self._images)
        chosen = ""
        for name in [self.plan.observer] if self.plan.observer else OBSERVERS:
            if self._try(name, lambda name=name: self._drawn(self.graph, seen, name)):
                chosen = name
        return chosen, seen

    def _drawn(self, graph: Graph, seen: Mapping[str, Observation], observer: str) -> Encoding:
        kept = self.plan.kept
        values = choose_ranges(place(graph, kept), seen, observer)
        return nearest(Encoding(graph, values, kept=kept))

    def _equalise(self, observer: str, seen: Mapping[str, Observation]) -> None:
        def equalised() -> Encoding:
            graph = equalise(self.graph, seen)
            again = observe(place(graph, self.plan.kept), self._images)
            return self._drawn(graph, again, observer)

        self._try("equalise", equalised)

    def _fitted(self) -> Tensor:
        """Return the images that layers are fitted on: as many as memory holds at once."""
        largest = max(node.type.bytes for node in self.graph)
        return self._images[: max(1, BYTES // (2 * ALIVE * largest))]

    def _try(
        self, name: str, step: Callable[[], Encoding], improves: Improves = diverges_less
    ) -> bool:
        """Do a step, and keep what it gives where that is better; tell of it."""
        start = perf_counter()
        encoding = step()
        error = self.judge(encoding)
        better = self._best is None or improves(error, self._best[0])
        if better:
            self._best = (error, encoding)
        found = QuantizationStep(name, error, better, perf_counter() - start)
        self._steps.append(found)
        self._tell(say_step(found))
        return better

    def _keep(self, layers: tuple[LayerNoise, ...], goal: float) -> None:
        """Keep the layers that rounding hurts most in float32, twice as many at each try."""
        begun = self.encoding
        worst = [each.layer for each in sorted(layers, key=lambda each: each.own)]
        most = int(MOST_KEPT * len(worst))
        counts = sorted({*(2**power for power in range(most.bit_length())), most} - {0})
        for count in counts:
            names = frozenset(worst[:count])
            self._try(f"keep {count}", lambda names=names: keep_layers(begun, names), agrees_more)
            if self.error.agrees(goal):
                return
        kept = f"{len(self.encoding.kept)} of {len(worst)} layers in float32"
        raise unmet(goal, self.error.agreement, kept)


def unmet(goal: float, best: float | None, kept: str) -> ValueError:
    """Return the error of an agreement that is not met with as many layers kept as may be."""
    assert best is not None, "what gives no classes has no goal"
    return ValueError(
        f"an agreement of {goal:.2%} is not met: {best:.2%} of the held-out images at best, with "
        f"{kept}; ask for less, or give more images like those that it is for"
    )


def say_step(step: QuantizationStep) -> str:
    """Return what a step came to, in a sentence."""
    error = step.error
    undone = "" if step.taken else ", taken back"
    return (
        f"{step.name}: {say_distance(error.nats, error.agreement)}, {error.decibels:.1f} dB{undone}"
        f", {step.seconds:.1f} s"
    )


def say_distance(nats: float, agreement: float | None) -> str:
    """Return how far a network is from the original, in words."""
    same = "" if agreement is None else f", the same class in {agreement:.2%}"
    return f"{nats:.5f} nats from the original{same}"
