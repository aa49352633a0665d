"""`dw.slim`: a trained network and a budget to a network that meets it and knows nearly as much."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthwise import __version__
from depthwise.calibration.images import resized_for
from depthwise.calibration.scores import gives_scores, scores_of
from depthwise.graph import Graph
from depthwise.progress import Say, silent
from depthwise.report.slimming_record import (
    Figures,
    LayerChange,
    RoundRecord,
    SlimmingRecord,
    TradeoffCurve,
    say_cost,
)
from depthwise.slimming import state
from depthwise.slimming.budget import Budget
from depthwise.slimming.channels.groups import pinned_layers
from depthwise.slimming.correction import hold_time
from depthwise.slimming.costs.clock import Clock
from depthwise.slimming.costs.figures import figures_of
from depthwise.slimming.costs.layers import compare_layers
from depthwise.slimming.costs.measuring import Divergence
from depthwise.slimming.costs.prices import Prices, machine_here
from depthwise.slimming.curve import trace_curve
from depthwise.slimming.draft import Draft
from depthwise.slimming.fitting.calibration import Likelihood, calibrate
from depthwise.slimming.fitting.mimic import mimic
from depthwise.slimming.fitting.reconstruction import reconstruct
from depthwise.slimming.fitting.recovery import check_recoverable, is_recovered, recover
from depthwise.slimming.fitting.synthetic import synthesise
from depthwise.slimming.frozen import frozen_weights
from depthwise.slimming.layers.balancing import balance_factors
from depthwise.slimming.layers.sites import left_alone
from depthwise.slimming.moves import MOVES
from depthwise.slimming.multiplier import NAME as WIDTH
from depthwise.slimming.multiplier import narrow_once
from depthwise.slimming.notes import NO_IMAGES, missed, risk, untouched
from depthwise.slimming.request import (
    SlimmingOptions,
    SlimmingRequest,
    asked_budget,
    open_single,
)
from depthwise.slimming.search import Bench, search, worthwhile
from depthwise.slimming.slimmed import Slimmed
from depthwise.slimming.unknown import unknown_operators
from depthwise.sources.slimmed_folder import KIND as SLIMMED
from depthwise.training.calibration_data import CalibrationData, gather
from depthwise.training.keeper import Onlooker, Unseen

if TYPE_CHECKING:
    from depthwise.sources.opening import Network

WORK = 2e11  # multiply-adds of all calibration images together, about
FEWEST, MOST = 128, 1000  # images
SYNTHETIC, SYNTHESIS = 256, 60.0  # images, and the seconds in which they are made
# How many times as fast a network is to become that has half of the MACs, as a share of twice
PACE = 0.95


class Slimming:
    """One network on its way to a budget: what is known of it, and where the search stands.

    Attributes:
        request: What is asked.
        graph: The network as it is.
        draft: The same, before anything is done to it.
    """

    def __init__(self, request: SlimmingRequest, directory: Path | None = None):
        """Look at a network. Raises ValueError where it cannot be slimmed so."""
        self.request, self._options, self._directory = request, request.options, directory
        if directory:
            SLIMMED.check_free(directory)
        self.graph = request.graph
        self.draft = Draft(self.graph, frozen=frozen_weights(request.source))
        self._clock = Clock(self.graph, self._options.build)

    @cached_property
    def data(self) -> CalibrationData:
        """The images. Raises ValueError for what cannot be used."""
        asked, source = self._options, self.request.source
        usual = int(WORK / max(1, Prices("macs").cost(self.graph)))
        count = asked.images or min(MOST, max(FEWEST, usual))
        if self.request.data is None:
            made = synthesise(self.graph, min(count, SYNTHETIC), SYNTHESIS, asked.seed)
            found = gather(made, self.graph, None, len(made), asked.seed)
            classes = source.pretrained.class_names if source.pretrained else ()
            return replace(found, said="synthetic images", classes=classes, notes=(NO_IMAGES,))
        return gather(self.request.data, self.graph, source.pretrained, count, asked.seed)

    @cached_property
    def times(self) -> Prices:
        """Prices in milliseconds, of the machine that is meant."""
        machine = self._options.machine or machine_here(self._options.build)
        return Prices("milliseconds", self._options.build, machine)

    @cached_property
    def prices(self) -> Prices:
        """Prices by the budget's measure; times of this machine are scaled by what is measured."""
        measure = self.request.budget.measure
        if measure != "milliseconds":
            return Prices(measure, self._options.build)
        if self.measures:
            self.times.hold(self.graph, self._clock.alone())
        return self.times

    @cached_property
    def cost(self) -> float:
        """What the network costs as it is, by the budget's measure."""
        return self.prices.cost(self.graph)

    @property
    def limit(self) -> float:
        """What it may cost. Raises ValueError where it costs no more."""
        budget, cost = self.request.budget, self.cost
        if self._options.alpha:
            return cost * self._options.alpha**2  # about: what most layers read and give is fewer
        limit = budget.limit(cost)
        if cost <= limit:
            raise ValueError(
                f"{self.request.source.name} meets a budget of {budget} already: it costs "
                f"{say_cost(budget.measure, cost)}"
            )
        return limit

    @cached_property
    def bench(self) -> Bench:
        """What the search works with."""
        data, seed = self.data, self._options.seed
        likelihood: Likelihood = "scores" if gives_scores(self.graph) else "values"

        def statistics(draft: Draft) -> Any:
            return calibrate(draft, resized_for(draft.graph, data.images), likelihood, seed)

        def refit(draft: Draft) -> Draft:
            return reconstruct(draft, self.graph, data.images)

        moves = {name: MOVES[name] for name in self._options.moves}
        distance = Divergence(self.graph, data.held, likelihood == "scores")
        limit, pace = self.request.budget.limit(self.cost), 0.0
        if self.request.budget.measure == "macs":
            estimated = self.times.cost(self.graph)
            self.times.hold(self.graph, estimated)  # by how many times as fast others are
            pace = PACE * self.cost / estimated
        return Bench(
            moves, self.prices, self.times, statistics, refit, distance, asked=limit, pace=pace
        )

    @cached_property
    def key(self) -> str:
        """A hash of all that the search depends on."""
        asked, budget = self._options, str(self.request.budget)
        images = hashlib.sha256(self.data.images.numpy().tobytes()).hexdigest()
        return state.make_key(
            __version__, state.digest(self.graph), budget, asked.moves, images,
            asked.build.chosen.full_name, asked.machine.cpu if asked.machine else "", asked.seed,
            sorted(self.draft.frozen), asked.alpha,
        )  # fmt: skip

    def curve(self) -> TradeoffCurve:
        """Return what each cost is estimated to do to the scores, before anything is done."""
        offers = worthwhile(self.bench, self.draft, self.bench.offers(self.draft, 0.0))
        name, measure = self.request.source.name, self.request.budget.measure
        return trace_curve(name, measure, self.cost, offers)

    def run(self, tell: Say) -> Slimmed:
        """Search until the budget is met, and return what came of it.

        Args:
            tell: Is told, in sentences, how it goes.

        Raises:
            ValueError: The budget is met already, or cannot be.
            OSError: Rounds cannot be kept.
        """
        if self.recovers:
            self._check_recovery()
        if self._options.mimic:
            scores_of(self.graph)  # by which it learns: nothing is done in vain
        limit = self.limit
        risked = risk(self.cost / limit) if self.request.data is None else ()
        for note in (*self.data.notes, *untouched(self.graph, self.draft.frozen), *risked):
            tell(note)
        progress = self._begin(tell)
        folder = self._directory if self.recovers else None
        if folder and is_recovered(folder) and not progress.rounds:
            raise ValueError(
                f"{self._directory} holds the recovery of a network that was slimmed before: "
                "choose another directory"
            )
        for reached in self._rounds(progress, limit, tell):
            progress = reached
            tell(progress.rounds[-1].told(self.prices.measure))
            if self._directory:
                state.keep(self._directory, self.key, progress)
        return self._finish(progress, limit, tell)

    def save(self, found: Slimmed) -> None:
        """Keep what was found in the directory, and no longer its rounds. Raises OSError."""
        if self._directory:
            found.save(self._directory)
            state.forget(self._directory)

    def _check_recovery(self) -> None:
        """Raise ValueError where it cannot be trained afterwards, before all else is done."""
        if self._directory is None:
            raise ValueError("a recovery is kept in a directory: give one")
        check_recoverable(self.data)

    def _begin(self, tell: Say) -> state.SearchProgress:
        draft = self.draft
        found = state.read(self._directory, self.key, draft) if self._directory else None
        if found is None:
            return state.SearchProgress((), draft, draft, self.prices.line)
        tell(f"going on after round {len(found.rounds)}")
        self.prices.scale, self.prices.offset = found.line
        return found

    def _rounds(
        self, progress: state.SearchProgress, limit: float, tell: Say
    ) -> Iterator[state.SearchProgress]:
        if self._options.alpha:
            if not progress.rounds:
                yield progress.then(
                    *narrow_once(self.bench, progress.draft, self._options.alpha), (1.0, 0.0)
                )
            return
        if self._holds_time:
            yield from hold_time(self.bench, progress, limit, self._time_of, tell)
            return
        for draft, found in search(self.bench, progress.draft, limit, progress.rounds):
            few = self.prices.cost(draft.graph) <= limit
            if self.bench.pace and self.measures and few:
                faster = self._clock.beside(draft.graph).ratios[1]
                self.times.hold(draft.graph, self.times.cost(self.graph) / faster)
            progress = progress.then(draft, found, self.prices.line)
            yield progress

    @property
    def measures(self) -> bool:
        """Whether times are measured: a library can be made of the network, and runs here."""
        return self._options.measures and not unknown_operators(self.graph)

    @property
    def _holds_time(self) -> bool:
        """Whether the budget is one of milliseconds that can be measured."""
        return self.prices.measure == "milliseconds" and self.measures

    def _time_of(self, graph: Graph) -> float:
        """Return the milliseconds of a draft, measured in turns with the original.

        A budget that is a share of the original's is held by how many times as fast it is.
        """
        timing = self._clock.beside(graph)
        if self.request.budget.relative:
            return self.cost / timing.ratios[1]
        return timing.milliseconds[1]

    def _mimicked(self, draft: Draft, tell: Say) -> Graph:
        """Return what a draft becomes where it is to learn from the original for some time."""
        if not self._options.mimic:
            return draft.graph
        asked = self._options
        found = mimic(draft, self.graph, self.data.images, float(asked.mimic), asked.mirror)
        tell(f"mimicking: {found}")
        return found.draft.graph

    def _finish(self, progress: state.SearchProgress, limit: float, tell: Say) -> Slimmed:
        asked, data = self.request, self.data
        balanced = replace(progress.draft, graph=balance_factors(progress.draft.graph))
        graph = self._mimicked(balanced, tell)
        before, after, ratio = self.compare(graph)
        alpha = self._options.alpha
        taken = self._time_of(graph) if self._holds_time else after.milliseconds
        late = tuple(missed(taken, limit)) if self.prices.measure == "milliseconds" else ()
        for note in late:
            tell(note)
        record = SlimmingRecord(
            depthwise=__version__, network=asked.source.name,
            budget=f"{alpha:g} of its width" if alpha else str(asked.budget),
            measure=asked.budget.measure, limit=progress.rounds[-1].after if alpha else limit,
            moves=(WIDTH,) if alpha else self._options.moves, data=data.said,
            rounds=progress.rounds, before=before, after=after, ratio=ratio,
            notes=(*data.notes, *late), unknown=unknown_operators(self.graph),
            layers=self._layers(graph, progress.rounds), frozen=tuple(sorted(self.draft.frozen)),
            left_alone=left_alone(self.graph, self.draft.frozen), pinned=pinned_layers(self.graph),
        )  # fmt: skip
        known = asked.source.pretrained
        classes = data.classes or (known.class_names if known else ())
        how = data.preprocessing or (known.preprocessing if known else None)
        return Slimmed(graph, record, classes, how)

    def _layers(self, graph: Graph, rounds: Sequence[RoundRecord]) -> tuple[LayerChange, ...]:
        steps = [step for each in rounds for step in each.steps]
        return compare_layers(self.graph, graph, self.times, steps)

    @property
    def recovers(self) -> bool:
        """Whether the network is trained afterwards."""
        return self._options.recover is not None

    def recover(self, found: Slimmed, onlooker: Onlooker) -> Slimmed:
        """Return a slimmed network after training, or as it was where that is better.

        Raises what `recovery.recover` raises.
        """
        assert self._directory
        recipe = {"time": self._options.recover, "mirror": self._options.mirror}
        better = recover(found, self.graph, self.data, recipe, self._directory, onlooker)
        before, after, ratio = self.compare(better.graph)
        layers = self._layers(better.graph, better.record.rounds)
        update = {"before": before, "after": after, "ratio": ratio, "layers": layers}
        return replace(better, record=better.record.model_copy(update=update))

    def compare(self, graph: Graph) -> tuple[Figures, Figures, float | None]:
        """Return the figures of the network and of a slimmed one, and how much faster this is."""
        before, after = (
            figures_of(each, self.graph, self.times, self.data) for each in (self.graph, graph)
        )
        if not self.measures:
            return before, after, None
        timing = self._clock.beside(graph)
        before, after = (
            figures.model_copy(update={"milliseconds": time, "measured": True})
            for figures, time in zip((before, after), timing.milliseconds, strict=True)
        )
        return before, after, timing.ratios[1]


def slim(
    net: "Network", shape: Any = None, budget: str | Budget | None = None, data: Any = None, *,
    options: SlimmingOptions | None = None, directory: str | PathLike[str] | None = None,
    tell: Say = silent,
) -> Slimmed:  # fmt: skip
    """Make a trained network meet a budget, and keep what it knows.

    Args:
        net: Whatever `dw.open` takes or returned, with trained weights.
        shape: Of its input, one image: (1, 3, 224, 224); left out, its usual one.
        budget: What it may cost: a `dw.Budget`, or "2ms", "150M" (MACs), "3MB" (weights), "25%";
            left out, "50%". None where options have an alpha.
        data: Images like those that it is for: labelled as `dw.train` takes them, a folder of
            images alone, an array as the network takes it, or (array, classes). Without any, some
            are synthesised, which knows less.
        options: Which moves, how many images, how long it is trained afterwards; None for the
            usual way.
        directory: Where finished rounds are kept, and at the end the network; a call that was
            interrupted goes on there. A recovery needs one.
        tell: Is told, in sentences, how it goes.

    Returns:
        The slimmed network, with the record of every step.

    Raises:
        ValueError: A network, a budget, images, or moves that cannot be used.
        Unsupported: The network cannot be captured.
        OSError: The directory cannot be written to.
    """
    source, options = open_single(net, shape), options or SlimmingOptions()
    request = SlimmingRequest(source, asked_budget(budget, options), data, options)
    slimming = Slimming(request, None if directory is None else Path(directory))
    found = slimming.run(tell)
    if slimming.recovers:
        found = slimming.recover(found, Unseen())
        tell(str(found.record.recovery))
    slimming.save(found)
    return found
