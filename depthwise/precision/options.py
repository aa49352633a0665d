"""What is asked of quantisation."""

from collections.abc import Iterable
from dataclasses import dataclass

from depthwise.errors import check_whole, nearest
from depthwise.graph import Graph
from depthwise.precision.request import check_agreement
from depthwise.quantization.ranges import OBSERVERS
from depthwise.quantization.steps import STEPS


@dataclass(frozen=True)
class QuantizationOptions:
    """How a network is quantised. Raises ValueError for what cannot be used.

    Attributes:
        observer: How ranges are drawn: minmax, percentile, mse or entropy; None tries each, and
            takes what is best on held-out images.
        steps: What is tried after that: equalise, bias, scale, rounding; each is taken back where
            it makes the divergence on held-out images larger.
        agreement: The share of held-out images in which the highest score must stay the same:
            layers that rounding hurts are kept in float32 until it is met. None for no such goal.
        keep: The paths of modules whose layers are kept in float32.
        curve: Whether layers are kept out of eight bits one after the other, those first that gain
            the most for a microsecond, and each stage is compiled and timed on this machine. With
            `agreement` the fastest that meets it is taken.
        kept: How many layers of the curve's order to keep; None is for none, or as `agreement`
            wants it.
        images: How many images it is calibrated on, at most; None fits that to the network.
        seed: Of which images are taken.
    """

    observer: str | None = None
    steps: tuple[str, ...] = STEPS
    agreement: float | None = None
    keep: tuple[str, ...] = ()
    curve: bool = False
    kept: int | None = None
    images: int | None = None
    seed: int = 0

    def __post_init__(self):
        if self.observer is not None and self.observer not in OBSERVERS:
            raise ValueError(f"observer {self.observer!r}: there are {', '.join(OBSERVERS)}")
        for name in ("steps", "keep"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Iterable):
                raise ValueError(f"{name}={value!r}: a tuple of names is accepted")
            object.__setattr__(self, name, tuple(value))
        for name in self.steps:
            if name not in STEPS:
                raise ValueError(f"step {name!r}: there are {', '.join(STEPS)}")
        if self.agreement is not None:
            check_agreement(self.agreement)
        check_whole("seed", self.seed, 0)
        for name, least in (("images", 1), ("kept", 0)):
            value = getattr(self, name)
            if value is not None:
                check_whole(name, value, least)
        if self.kept is not None and not self.curve:
            raise ValueError(
                f"kept={self.kept}: that many layers of the curve's order: ask for the curve, too "
                "(--curve)"
            )
        if self.kept is not None and self.agreement is not None:
            raise ValueError(
                f"kept={self.kept} and agreement={self.agreement}: both choose a point of the "
                "curve; leave out one"
            )


def kept_layers(graph: Graph, paths: tuple[str, ...]) -> frozenset[str]:
    """Return the nodes of these modules, and of those inside them.

    Raises ValueError for a path that no module has.
    """
    found: set[str] = set()
    for path in paths:
        inside = {n.name for n in graph if n.path == path or n.path.startswith(f"{path}.")}
        if not inside:
            known = list(dict.fromkeys(node.path for node in graph if node.path))
            raise ValueError(f"no module is called {path!r}: {nearest(path, known)}")
        found |= inside
    return frozenset(found)
