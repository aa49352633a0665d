"""`dw.quantize`: a trained network in eight bits, each step judged on images."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from depthwise.analysis.count import count_all_macs
from depthwise.calibration.images import as_tensor
from depthwise.calibration.scores import gives_scores, say_outputs
from depthwise.escaping import counted
from depthwise.graph import Graph
from depthwise.precision.options import QuantizationOptions, kept_layers
from depthwise.precision.quantized import Quantized
from depthwise.precision.record import NoiseFigures, QuantizationRecord, StepFigures
from depthwise.precision.request import NO_DATA
from depthwise.progress import Say, silent
from depthwise.quantization.insertion import Encoding, insert_quantization
from depthwise.quantization.integer import is_quantised
from depthwise.quantization.preparing import prepare
from depthwise.quantization.running import Runner
from depthwise.quantization.scheme import LEVELS, SMALLEST
from depthwise.quantization.simulation import IntegerSimulator
from depthwise.quantization.steps import QuantizationOutcome, QuantizationPlan, Road
from depthwise.sources.opening import open
from depthwise.sources.source import Source
from depthwise.training.calibration_data import CalibrationData, gather
from depthwise.training.framing import mismatch

if TYPE_CHECKING:
    from depthwise.sources.opening import Network

WORK = 1e11  # multiply-adds of all calibration images together, about
FEWEST, MOST = 128, 512  # images
SIMULATED = 16  # held-out images that are computed in integers
LOOKED_AT = 32  # images that tell whether they are prepared as the network wants them
STRANGE = 0.5  # nats by which they differ from what BatchNorms remember: prepared otherwise
USUAL = QuantizationOptions()


def quantize(
    net: "Network", shape: Any = None, data: Any = None, *,
    options: QuantizationOptions = USUAL, tell: Say = silent,
) -> Quantized:  # fmt: skip
    """Compute a trained network in eight bits: int8 weights, uint8 activations, int32 sums.

    Each step is judged on images that are held out, and taken back where it makes things worse.

    Args:
        net: Whatever `dw.open` takes or returned, with trained weights.
        shape: Of its input, one image: (1, 3, 224, 224); left out, its usual one.
        data: Images like those that it is for: labelled as `dw.train` takes them, a folder of
            images alone, an array as the network takes it, or (array, classes). What
            `gather_images` returned is taken as it is.
        options: Which steps, which goal, how many images.
        tell: Is told, in sentences, how it goes.

    Returns:
        The quantised network, with the record of every step.

    Raises:
        ValueError: A network or images that cannot be used, or a goal that is not met.
        Unsupported: The network cannot be captured.
        BuildError: A curve is asked for, and the C compiler is missing or fails.
    """
    if data is None:
        raise ValueError(NO_DATA)
    source = open(net, *(() if shape is None else (shape,)))
    graph = source.graph
    if is_quantised(graph):
        raise ValueError(
            f"{source.name} is quantised already: quantise the network that it was made of"
        )
    scores = gives_scores(graph)
    if options.agreement is not None and not scores:
        raise ValueError(
            f"agreement={options.agreement}: it is of the classes of images, and {source.name} "
            f"returns {say_outputs(graph)}, no vector of scores: leave it out"
        )
    images = data if isinstance(data, CalibrationData) else gather_images(source, data, options)
    notes = (*images.notes, *_strange(graph, images.images))
    for note in notes:
        tell(note)
    kept = kept_layers(prepare(graph), options.keep)
    goal = None if options.curve else options.agreement
    plan = QuantizationPlan(options.observer, options.steps, goal, kept, scores)
    road = Road(graph, images.images, images.held, plan, tell)
    outcome, curve = road.run(), None
    if options.curve:
        from depthwise.precision.curve import trace_curve  # noqa: PLC0415  (it needs the compiler)

        traced = trace_curve(road, outcome, options, images.validation, tell)
        outcome, curve = traced.outcome, traced.figures
    vanishing = _vanishing(outcome.encoding)
    for note in vanishing:
        tell(note)
    notes = (*notes, *vanishing)
    record = _record(source, images, road, outcome, notes).model_copy(update={"curve": curve})
    quantized = insert_quantization(outcome.encoding)
    return Quantized(quantized, record, images.classes, images.preprocessing)


def gather_images(
    source: Source, data: Any, options: QuantizationOptions = USUAL
) -> CalibrationData:
    """Return the images that a network is quantised with, and those held out to judge it on.

    Raises ValueError for data that cannot be used.
    """
    usual = min(MOST, max(FEWEST, int(WORK / max(1, count_all_macs(source.graph)))))
    count = options.images or usual
    return gather(data, source.graph, source.pretrained, count, options.seed, needs_classes=False)


def _strange(graph: Graph, images: Tensor) -> tuple[str, ...]:
    """Return a note where images do not look as those did that the network was trained on."""
    apart = mismatch(graph, as_tensor(graph, images[:LOOKED_AT]))
    if apart is None or apart < STRANGE:
        return ()
    low, high = (float(end) for end in torch.aminmax(images))
    return (
        f"the images do not look like those that the network was trained on ({apart:.2f} of 1 nat "
        f"apart by its BatchNorms; their numbers go from {low:.3g} to {high:.3g}): prepare them as "
        "its weights want it, else ranges are drawn wrongly",
    )


def _vanishing(encoding: Encoding) -> tuple[str, ...]:
    """Return a note where values are so small on all images that their bytes are all zero."""
    small = [name for name, held in encoding.values.items() if held.scale <= SMALLEST]
    if not small:
        return ()
    paths = {node.name: node.path for node in encoding.graph}
    first = paths.get(small[0]) or small[0]
    return (
        f"{len(small)} of {counted(len(encoding.values), 'value')} are less than "
        f"{LEVELS * SMALLEST:.0e} on every image and become 0, the first that of {first}: is the "
        "network trained, and are images prepared as its weights want them?",
    )


def _record(
    source: Source, images: CalibrationData, road: Road, outcome: QuantizationOutcome,
    notes: tuple[str, ...],
) -> QuantizationRecord:  # fmt: skip
    encoding, error = outcome.encoding, outcome.error
    quantized = insert_quantization(encoding)
    some = images.held[:SIMULATED].contiguous().numpy()
    exact = _simulated(quantized, some)
    same = road.judge.compare(torch.from_numpy(exact).double()).agreement
    judged: dict[str, Any] = {}
    if images.validation:
        x, labels = images.validation
        runner = Runner(x)
        before, after = (
            int((found.argmax(1).numpy() == labels).sum())
            for found in (runner.original(road.graph), runner(encoding))
        )
        judged = {"judged": len(labels), "right_before": before, "right_after": after}
    return QuantizationRecord(
        network=source.name, data=images.said, images=len(images.images),
        held_out=len(images.held), kept_in=encoding.kept_in,
        kept=tuple(sorted(encoding.kept & set(_layers(road.graph)))),
        steps=tuple(
            StepFigures(
                name=step.name, taken=step.taken, seconds=step.seconds, nats=step.error.nats,
                agreement=step.error.agreement, decibels=step.error.decibels,
            )
            for step in outcome.steps
        ),
        layers=tuple(
            NoiseFigures(layer=each.layer, path=each.path, own=each.own, all=each.all)
            for each in outcome.layers
        ),
        nats=error.nats, agreement=error.agreement, decibels=error.decibels,
        simulated=len(some), simulated_agreement=same,
        weight_bytes=_bytes(quantized), float_bytes=_bytes(road.graph), notes=notes, **judged,
    )  # fmt: skip


def _simulated(graph: Graph, images: np.ndarray) -> np.ndarray:
    """Return what a network first returns for images, computed in integers.

    A network of several images at once is given some of them again, where they do not go up in it.
    """
    at_once = next(iter(graph.inputs.values())).shape[0]
    count = -(-len(images) // at_once) * at_once
    found = IntegerSimulator(graph)(np.resize(images, (count, *images.shape[1:])))
    return (found if isinstance(found, np.ndarray) else found[0])[: len(images)]


def _layers(graph: Graph) -> list[str]:
    return [node.name for node in graph if graph.weights(node)]


def _bytes(graph: Graph) -> int:
    return sum(constant.type.bytes for constant in graph.constants.values())
