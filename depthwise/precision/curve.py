"""Agreement against milliseconds: layers kept out of bytes, those that gain most first.

What is kept is computed in bfloat16 where the machine has tiles for it, else in float32. Every
layer is timed in both types, in the network as it is compiled for this machine, and it is
measured how much less the scores diverge where it alone is kept. The first layers of that order
are then kept, more and more of them, and each such network is compiled, timed and judged.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from torch import Tensor

from depthwise.bench.layers import usual
from depthwise.compiler.autotune.step_timer import Clocked, build_clocked
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.pipeline import choose_plan, rewrite_for
from depthwise.compiler.quantised import options_of_bytes
from depthwise.graph import Graph
from depthwise.graph.dtypes import BFLOAT16
from depthwise.graph.layers import is_layer
from depthwise.hardware.load import Watch
from depthwise.precision.options import QuantizationOptions
from depthwise.precision.record import CurveFigures, GainFigures, PointFigures
from depthwise.progress import Say, track
from depthwise.quantization.insertion import Encoding, insert_quantization
from depthwise.quantization.judging import HeldOut, QuantizationError, keep_layers
from depthwise.quantization.running import Runner
from depthwise.quantization.steps import QuantizationOutcome, Road, say_distance, unmet

LOOKED_AT = 32  # held-out images that each layer's gain is measured on
JUDGED = 500  # validation images, at most, that each point is judged on
COUNTS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)  # layers that are kept at the points
TURNS = 5  # of timing: all points take turns
SECONDS = 0.4  # of a point in a turn
FEWEST = 5  # runs of a point in a turn
INSTANT = 0.1  # microseconds: what takes no longer when it is kept is taken to take so much longer


@dataclass(frozen=True, eq=False)
class TracedCurve:
    """A curve, and the point of it that was chosen.

    Attributes:
        figures: All that was measured.
        outcome: The network of that point, in eight bits.
    """

    figures: CurveFigures
    outcome: QuantizationOutcome


def trace_curve(
    road: Road, begun: QuantizationOutcome, options: QuantizationOptions,
    validation: tuple[Tensor, np.ndarray] | None, tell: Say,
) -> TracedCurve:  # fmt: skip
    """Return the curve of a network that was quantised, by what this machine takes for it.

    Args:
        road: What judges it.
        begun: The network with all layers in eight bits that may be.
        options: Which point is to be chosen.
        validation: Images with their classes, where there are any.
        tell: Is told how it goes.

    Raises:
        ValueError: No point agrees as often as is asked, or there are fewer layers than are to be
            kept.
        BuildError: The C compiler is missing or fails.
    """
    _check_kept(options, begun, len(begun.layers))  # before the wait
    watch = Watch()
    compiling = options_of_bytes(CompileOptions())
    if compiling.chosen.tiles:
        compiling = replace(compiling, precision=BFLOAT16.name)
    start = replace(begun.encoding, kept_in=compiling.precision)
    order = _order(road, start, compiling)
    _check_kept(options, begun, len(order))
    names = [gain.layer for gain in order]
    counts = sorted({n for n in COUNTS if n <= len(order)} | {options.kept or 0})
    encodings = {n: keep_layers(start, frozenset(names[:n])) for n in counts}
    whole = replace(road.unrounded, kept_in=start.kept_in)
    some = (validation[0][:JUDGED], validation[1][:JUDGED]) if validation else None
    *points, last = _points(road, [*encodings.values(), whole], compiling, some)
    points = [
        point.model_copy(update={"kept": n, "layer": order[n - 1].path if n else ""})
        for n, point in zip(counts, points, strict=True)
    ]
    for point in points:  # before one is chosen, for there may be none
        tell(_say(point, start.kept_in))
    chosen = _choose(points, options)
    figures = CurveFigures(
        target=compiling.target, kept_in=start.kept_in, disturbed=watch.load().disturbed,
        order=tuple(order), points=tuple(points), whole=last, chosen=chosen.kept,
        judged=len(some[1]) if some else None, float_right=_right(some, road.unrounded),
    )  # fmt: skip
    taken = encodings[chosen.kept]
    error = QuantizationError(chosen.nats, chosen.agreement, chosen.decibels)
    layers = road.judge.layers(taken)
    return TracedCurve(figures, replace(begun, encoding=taken, error=error, layers=layers))


def _check_kept(options: QuantizationOptions, begun: QuantizationOutcome, most: int) -> None:
    """Raise ValueError where more layers are to be kept than gain something by it."""
    if (options.kept or 0) > most:
        raise ValueError(
            f"kept={options.kept}: of {len(begun.layers)} layers {most} may gain something where "
            f"they are kept out of eight bits; give a number up to {most}"
        )


def _points(
    road: Road, encodings: Sequence[Encoding], options: CompileOptions,
    validation: tuple[Tensor, np.ndarray] | None,
) -> list[PointFigures]:  # fmt: skip
    """Return what networks come to that differ in their kept layers, compiled and judged."""
    found = []
    times = _times([insert_quantization(each) for each in encodings], options)
    for time, encoding in zip(times, track(encodings, "judging the curve"), strict=True):
        error = road.judge(encoding)
        layers = [node for node in encoding.graph if is_layer(encoding.graph, node)]
        found.append(
            PointFigures(
                kept=sum(node.name in encoding.kept for node in layers), milliseconds=time,
                nats=error.nats, agreement=error.agreement, decibels=error.decibels,
                right=_right(validation, encoding),
            )
        )  # fmt: skip
    return found


def _order(road: Road, begun: Encoding, options: CompileOptions) -> list[GainFigures]:
    """Return the layers that gain something where they are kept, the most for a microsecond first.

    Layers of one module share its time.
    """
    layers = begun.placement.layers
    judge = HeldOut(road.graph, road.held[:LOOKED_AT], road.plan.scores)
    before = judge(begun).nats
    in_bytes, kept = _layer_times([insert_quantization(begun), road.graph], options)
    shared = defaultdict[str, int](int)
    for node in layers.values():
        shared[node.path] += 1
    found = []
    for name in track(list(layers), "trying layers one by one"):
        path = layers[name].path
        gain = before - judge(keep_layers(begun, frozenset({name}))).nats
        longer = 1e6 * (kept[path] - in_bytes[path]) / shared[path]
        found.append(GainFigures(layer=name, path=path, nats=gain, microseconds=longer))
    worth = [each for each in found if each.nats > 0]
    return sorted(worth, key=lambda each: -each.nats / max(each.microseconds, INSTANT))


def _layer_times(graphs: Sequence[Graph], options: CompileOptions) -> list[dict[str, float]]:
    """Return the seconds of each module's steps, of each graph."""
    found = []
    for clocked, runs in _runs(graphs, options):
        times = defaultdict[str, float](float)
        for step, seconds in zip(clocked.plan.steps, usual(runs).tolist(), strict=True):
            times[step.path] += seconds
        found.append(times)
    return found


def _times(graphs: Sequence[Graph], options: CompileOptions) -> list[float]:
    """Return the milliseconds of each graph: the median of its runs."""
    return [1e3 * median(runs.sum(1).tolist()) for _, runs in _runs(graphs, options)]


def _runs(graphs: Iterable[Graph], options: CompileOptions) -> list[tuple[Clocked, np.ndarray]]:
    """Return the times of the steps of each graph, compiled, all of which take turns."""
    plans = [choose_plan(rewrite_for(options, graph)[0], options) for graph in graphs]
    built = build_clocked(plans, options.cc)
    turns: list[list[np.ndarray]] = [[] for _ in built]
    for _ in range(TURNS):
        for own, clocked in zip(turns, built, strict=True):
            own.append(clocked.runs(SECONDS, FEWEST))
    return [(each, np.concatenate(own)) for each, own in zip(built, turns, strict=True)]


def _right(images: tuple[Tensor, np.ndarray] | None, encoding: Encoding) -> int | None:
    """Return how many labelled images a network names rightly; None where there are none."""
    if images is None:
        return None
    said = Runner(images[0])(encoding).argmax(1).numpy()
    return int((said == images[1]).sum())


def _choose(points: Sequence[PointFigures], options: QuantizationOptions) -> PointFigures:
    """Return the point that is asked for. Raises ValueError where there is none."""
    if options.agreement is None:
        return next(point for point in points if point.kept == (options.kept or 0))
    fit = [point for point in points if (point.agreement or 0.0) >= options.agreement]
    if not fit:
        best = max(points, key=lambda point: point.agreement or 0.0)
        raise unmet(options.agreement, best.agreement, f"{best.kept} layers kept")
    return min(fit, key=lambda point: point.milliseconds)


def _say(point: PointFigures, kept_in: str) -> str:
    layers = "1 layer" if point.kept == 1 else f"{point.kept} layers"
    distance = say_distance(point.nats, point.agreement)
    return f"{layers} in {kept_in}: {point.milliseconds:.3f} ms, {distance}"
