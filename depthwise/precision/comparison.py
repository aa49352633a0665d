"""A network to be compared with other runtimes in several precisions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from depthwise.bench.exported_model import BenchImages, Question
from depthwise.compiler.options import INT8
from depthwise.escaping import counted, in_line
from depthwise.graph import Graph
from depthwise.graph.exporters.torch.batch import with_images
from depthwise.precision.quantize import gather_images, quantize
from depthwise.precision.request import NO_INT8, noise
from depthwise.progress import Say, silent
from depthwise.sources.source import Source


def in_precisions(
    question: Question, source: Source, precisions: Sequence[str], data: Any = None,
    tell: Say = silent,
) -> Question:  # fmt: skip
    """Return what is compared, in each precision, with images to judge these by.

    Args:
        question: What is compared; where its network came quantised, with that.
        source: The same network in float32, as it was opened.
        precisions: Those of our own library.
        data: Images as `dw.quantize` takes them; None judges by noise.
        tell: Is told how quantising goes.

    Raises ValueError where int8 is asked for and there is nothing to quantise with, and what
    `dw.quantize` raises.
    """
    quantised, batch = question.quantised, question.shape[0]
    if INT8 in precisions and quantised is None and data is None:
        raise ValueError(f"--precision {INT8}: {NO_INT8}")
    if data is None:
        images = BenchImages(*noise(question.shape))
    else:
        read = gather_images(source, data)
        held, fitted = (each.contiguous().numpy() for each in (read.held, read.images))
        said = f"{counted(len(held), 'held-out image')} of {in_line(read.said)}"
        images = BenchImages(said, held, fitted)
        if INT8 in precisions and quantised is None:
            quantised = _quantise(source, read, tell)
    if INT8 in precisions and quantised:
        quantised = with_images(quantised, batch)
    return replace(question, precisions=tuple(precisions), quantised=quantised, images=images)


def _quantise(source: Source, data: Any, tell: Say) -> Graph:
    found = quantize(source, data=data, tell=tell)
    tell(str(found))
    return found.graph
