"""Classify: what the compiled library makes of the images, and what its layers see."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from depthwise.compiler.verification.difference import relative_error
from depthwise.escaping import counted, in_line
from depthwise.progress import track
from depthwise.report.record import FeatureRecord, GuessRecord, ImageRecord, Predictions, Report
from depthwise.runtime.labels import find_scores
from depthwise.runtime.library import Library, load
from depthwise.shipping.network import CurrentNetwork
from depthwise.shipping.request import Request
from depthwise.sources.source import TorchSource
from depthwise.weights import Preprocessing
from depthwise.weights.classes import best_classes, class_names

TOP = 5  # classes that are named
WATCHED = 2  # images whose feature maps are shown
MAPS = 5  # layers of each, at most: one a plane's size
SIDE = 4  # channels across and down
LARGEST = 56  # pixels of a channel in the page
GAP = 2  # pixels between channels


def classify_images(
    request: Request, network: CurrentNetwork, _: Report
) -> tuple[Predictions, CurrentNetwork]:
    """Run the saved library on the images, name what is in them, and keep feature maps."""
    prepare, chosen = network.preprocessing, request.build.chosen
    if prepare is None or not request.images:
        return _without_images("The network was shown no photographs."), network
    if not chosen.runs_here:
        reason = f"This machine cannot run a library for {chosen.full_name}."
        return _without_images(reason), network
    library = load(request.directory)
    doing = f"classifying {counted(len(request.images), 'image')}"
    images = track(request.images, doing, pace="classifying")
    predictions = Predictions(
        images=tuple(_classify(network, library, image, prepare) for image in images),
        features=tuple(
            feature
            for image in request.images[:WATCHED]
            for feature in _features(network, image, prepare)
        ),
        remarks=tuple(_remarks(request, network)),
    )
    return predictions, network


def _without_images(reason: str) -> Predictions:
    return Predictions(images=(), features=(), remarks=(reason,))


def _remarks(request: Request, network: CurrentNetwork) -> Iterator[str]:
    if network.untrained:
        yield "The weights are random: what the network would take the photographs for is not said."
    elif network.source.pretrained is None:
        nor = "" if network.labels else ", nor the names of their classes"
        yield (
            f"The weights do not record how photographs are prepared{nor}: ImageNet's usual way is "
            "assumed."
        )
    if request.left_out:
        yield f"Of the folder's images {request.left_out} more were left out."
    for reason in request.broken:
        yield f"Left out: {reason}."
    if _module(network) is None:
        yield "An exported network has no modules to watch: there are no feature maps."


def _classify(
    network: CurrentNetwork, library: Library, path: Path, prepare: Preprocessing
) -> ImageRecord:
    pixels = prepare.apply(path).contiguous()
    scores, expected = library.run([pixels.numpy()]), network.source.run([pixels.numpy()])
    error = max(relative_error(y, e) for y, e in zip(scores, expected, strict=True))
    guesses: list[tuple[str, float]] = []
    index = find_scores([y.shape for y in scores], len(network.labels) or None)
    if not network.untrained and index is not None and scores[index].shape[1] > 1:
        classes = scores[index].shape[1]
        names = network.labels or class_names(network.source.pretrained, classes)
        guesses = best_classes(scores[index][0], names)[:TOP]
    return ImageRecord(
        file=in_line(path.name), picture=_photograph(pixels, prepare), error=error,
        guesses=tuple(GuessRecord(name=name, probability=p) for name, p in guesses),
    )  # fmt: skip


def _module(network: CurrentNetwork) -> nn.Module | None:
    """Return the module that the network is; None where it was exported, or came as a graph."""
    source = network.source
    return source.exported if isinstance(source, TorchSource) else None


def _features(
    network: CurrentNetwork, path: Path, prepare: Preprocessing
) -> Iterator[FeatureRecord]:
    """Yield the first channels of the last layer of each plane size, as PyTorch computes them."""
    module = _module(network)
    if module is None:
        return
    with _watching(module) as seen:
        network.source.run([prepare.apply(path).numpy()])
    by_size = {y.shape[1:]: (name, y) for name, y in seen.items()}  # the last of a size stays
    sizes = sorted(by_size, reverse=True)
    for size in [sizes[i] for i in sorted({*np.linspace(0, len(sizes) - 1, MAPS).astype(int)})]:
        name, y = by_size[size]
        shown = y[: SIDE * SIDE]
        shape = (y.shape[0], y.shape[1], y.shape[2])
        yield FeatureRecord(
            layer=in_line(name),
            file=in_line(path.name),
            shape=shape,
            channels=len(shown),
            picture=_grid(shown),
        )


@contextmanager
def _watching(net: nn.Module) -> Iterator[dict[str, np.ndarray]]:
    """Give a dict that fills with what each innermost module returns: {path: (C, H, W)}."""
    seen: dict[str, np.ndarray] = {}

    def watch(path: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, y: Any) -> None:
            if isinstance(y, Tensor) and y.ndim == 4 and min(y.shape[2:]) > 1:
                seen[path] = y[0].detach().float().numpy()

        return keep

    leaves = [(path, m) for path, m in net.named_modules() if path and not [*m.children()]]
    handles = [module.register_forward_hook(watch(path)) for path, module in leaves]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _grid(planes: np.ndarray) -> str:
    """Return channels (C, H, W) side by side as a grey PNG; each from its 1st to 99th percentile.

    Planes larger than LARGEST are thinned out; the spaces between them are clear.
    """
    step = max(1, -(-max(planes.shape[1:]) // LARGEST))
    planes = planes[:, ::step, ::step]
    _, height, width = planes.shape
    across = min(SIDE, len(planes))
    down = -(-len(planes) // across)
    sheet = np.zeros((down * (height + GAP) - GAP, across * (width + GAP) - GAP, 2), np.uint8)
    for i, plane in enumerate(planes):
        low, high = np.percentile(plane, (1, 99))
        grey = np.clip((plane - low) / max(high - low, 1e-12), 0, 1) * 255
        top, left = i // across * (height + GAP), i % across * (width + GAP)
        sheet[top : top + height, left : left + width, 0] = grey.astype(np.uint8)
        sheet[top : top + height, left : left + width, 1] = 255
    return _data_uri(Image.fromarray(sheet, "LA"), "png")


def _photograph(pixels: Tensor, prepare: Preprocessing) -> str:
    """Return what the network sees, (1, 3, H, W) normalised, as a picture."""
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (prepare.mean, prepare.std))
    rgb = np.clip((pixels[0].numpy() * std + mean) * 255, 0, 255).round().astype(np.uint8)
    return _data_uri(Image.fromarray(rgb.transpose(1, 2, 0)), "jpeg")


def _data_uri(image: Image.Image, format: str) -> str:
    file = io.BytesIO()
    image.save(file, format, **({"quality": 88} if format == "jpeg" else {"optimize": True}))
    return f"data:image/{format};base64,{base64.b64encode(file.getvalue()).decode()}"
