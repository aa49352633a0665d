"""What is asked of slimming: the network, its budget, the images, and how it is compiled."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any

from torch import nn

from depthwise.analysis.count import count_macs
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.verification.references.choose import is_single
from depthwise.errors import check_whole, nearest
from depthwise.escaping import kind_of
from depthwise.graph import Graph
from depthwise.hardware.record import Machine
from depthwise.slimming.budget import Budget
from depthwise.slimming.moves import MOVES
from depthwise.slimming.unknown import check_unknown
from depthwise.sources.opening import open
from depthwise.sources.source import Source
from depthwise.training.recipe import LONGEST, parse_seconds

if TYPE_CHECKING:
    from depthwise.sources.opening import Network

EVERY = tuple(MOVES)
BUDGET = "50%"  # where none is given
ONE_INPUT = "a network is slimmed that takes one input, of one image, as in (1, 3, 224, 224)"


@dataclass(frozen=True)
class SlimmingOptions:
    """How a network is slimmed. Raises ValueError for what cannot be used.

    Attributes:
        moves: The names of what may be done to it; everything, where left out.
        images: How many images it is calibrated on, at most; None fits that to the network.
        build: How it is compiled.
        machine: Another machine, calibrated, whose milliseconds a budget is of; None for this one.
        mimic: The seconds in which it learns, at the end, to give what the original gives for the
            images, without labels; 0 for none.
        mirror: Whether images may be mirrored when it learns: not where left and right differ, as
            in letters.
        recover: The seconds that it is trained afterwards, also as text, "10min": on labelled
            images, the original its teacher; None for no training.
        seed: Of which images are taken, and of all else that is drawn.
        alpha: The share of the channels that every layer keeps, in the place of a search for a
            budget: a width multiplier; None for the search.
    """

    moves: tuple[str, ...] = EVERY
    images: int | None = None
    build: CompileOptions = field(default_factory=CompileOptions)
    machine: Machine | None = None
    mimic: float | str = 0.0
    mirror: bool = True
    recover: float | str | None = None
    seed: int = 0
    alpha: float | None = None

    def __post_init__(self):
        check_moves(self.moves)
        object.__setattr__(self, "moves", tuple(self.moves))
        known = isinstance(self.alpha, float) and 0 < self.alpha < 1
        if self.alpha is not None and not known:
            raise ValueError(
                f"alpha={self.alpha!r}: the share of the channels that layers keep is accepted, "
                "above 0 and below 1"
            )
        if self.images is not None:
            check_whole("images", self.images, 1)
        check_whole("seed", self.seed, 0)
        for name in ("mimic", "recover"):
            object.__setattr__(self, name, _check_seconds(name, getattr(self, name)))

    @property
    def measures(self) -> bool:
        """Whether times are measured: the library runs here, and this machine is what counts."""
        return self.machine is None and self.build.chosen.runs_here


@dataclass(frozen=True, eq=False)
class SlimmingRequest:
    """One call of `dw.slim`. Raises ValueError for a network that cannot be slimmed.

    Attributes:
        source: The network, at one image.
        budget: What it may cost.
        data: Images, as `data.gather` takes them; None has some synthesised.
        options: How.
    """

    source: Source
    budget: Budget
    data: Any = None
    options: SlimmingOptions = field(default_factory=SlimmingOptions)

    def __post_init__(self):
        check_network(self.graph, self.source.name)
        check_unknown(self.graph, self.source.name, self.budget)

    @property
    def graph(self) -> Graph:
        """The network, with operators that are not known where PyTorch can run them."""
        return self.source.runnable


def asked_budget(given: str | Budget | None, options: SlimmingOptions) -> Budget:
    """Return a budget that was given, and the usual one where none was.

    Raises ValueError for one that is none, and for one beside a width.
    """
    if given is not None and options.alpha:
        raise ValueError(
            f"a width of {options.alpha:g} and a budget of {given}: give one, and slim the result "
            "to the other"
        )
    return Budget.read(BUDGET if given is None else given)


def open_single(net: "Network", shape: Any) -> Source:
    """Open a network that takes one input.

    Args:
        net: Whatever `dw.open` takes.
        shape: Of its input, None for its usual one.

    Raises ValueError for what `dw.open` refuses, and for a module that takes more than one input.
    """
    if isinstance(net, nn.Module):
        taken = signature(net.forward).parameters.values()
        needed = [each.name for each in taken if each.default is each.empty
                  and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]  # fmt: skip
        if len(needed) > 1:
            raise ValueError(
                f"{type(net).__name__} takes {' and '.join(needed)}: {ONE_INPUT}; slim the module "
                "in it that takes the image"
            )
    return open(net, *(() if shape is None else (shape,)))


def _check_seconds(name: str, given: Any) -> float | None:
    """Return seconds that were given as a number or a text. Raises ValueError for any other."""
    if given is None:
        return None
    seconds = parse_seconds(given)
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 <= seconds <= LONGEST or (name == "recover" and not seconds):
        raise ValueError(f"{name}={given!r}: seconds, or a text as 90s, 10min or 1h, are accepted")
    return float(seconds)


def check_network(graph: Graph, name: str) -> None:
    """Raise ValueError for a network that is not of float32, or not fixed to one image."""
    shapes = [type_.shape for type_ in graph.inputs.values()]
    if len(shapes) != 1 or not shapes[0] or shapes[0][0] != 1:
        found = " and ".join(map(str, shapes))
        raise ValueError(f"{name} takes {found}: {ONE_INPUT}")
    if not any(count_macs(graph, node) for node in graph):
        raise ValueError(f"{name} has no multiply-adds: there is nothing to slim")
    if not is_single(graph):
        raise ValueError(f"{name} has other numbers than float32: float32 networks are slimmed")


def check_moves(moves: Iterable[str]) -> None:
    """Raise ValueError for a move that there is not, or for none at all."""
    if isinstance(moves, str):
        raise ValueError(f"moves is {kind_of(moves)}: give a list of names, of {', '.join(MOVES)}")
    names = list(moves)
    for name in names:
        if name not in MOVES:
            near = nearest(str(name), MOVES)
            raise ValueError(f"no move is named {name!r}: {near}; there are {', '.join(MOVES)}")
    if not names:
        raise ValueError(f"no moves are given: there are {', '.join(MOVES)}")
