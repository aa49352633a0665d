"""A run's pictures: its curves, what it takes for what, how right it is by class, its mistakes.

They are as wide as a telephone shows them with letters that can be read, on white of their own.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from depthwise.escaping import in_line
from depthwise.files.figures import save_figure
from depthwise.training.augment import Appearance
from depthwise.training.data.squares import Prepared
from depthwise.training.evaluation import Evaluation
from depthwise.training.history import EpochRecord, read_history
from depthwise.training.result import ClassResult, SplitResult

CURVES, CONFUSION = "curves.png", "confusion.png"
CLASSES, MISTAKES = "classes.png", "mistakes.png"
WIDTH = 4.3  # inches
BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#8C8C8C", "#1B1F23"
WITH_NUMBERS, WITH_NAMES = 12, 20  # classes, up to which a confusion matrix shows these
ROWS = 40  # classes whose accuracy is shown: the worst
LONGEST = 18  # characters of a class's name
SHOWN = 12  # mistakes
ACROSS = 3


def write_pictures(directory: Path, found: Evaluation, judged: Prepared, look: Appearance) -> None:
    """Write all pictures of a run that is over.

    Args:
        directory: The run's.
        found: What its best network says of the images that its epochs were compared on.
        judged: These images.
        look: How they look to the network.

    Raises OSError where they cannot be written.
    """
    write_curves(read_history(directory), directory)
    squares = judged.squares.take(worst_mistakes(found))
    images = [square.numpy().transpose(1, 2, 0) for square in look.cut(squares)]
    write_judgement(found, images, directory)


def write_curves(epochs: Sequence[EpochRecord], directory: Path) -> None:
    """Write curves.png: what happened in each epoch. Raises OSError."""
    save_figure(lambda: draw_curves(epochs), directory / CURVES)


def write_judgement(found: Evaluation, images: Sequence[np.ndarray], directory: Path) -> None:
    """Write confusion.png, classes.png and mistakes.png.

    Args:
        found: What was said of the images of a split.
        images: Those that `worst_mistakes` names: pixels of uint8, (H, W, 3).
        directory: Where to.

    Raises OSError where they cannot be written.
    """
    save_figure(lambda: draw_confusion(found), directory / CONFUSION)
    save_figure(lambda: draw_classes(SplitResult.of(found)), directory / CLASSES)
    save_figure(lambda: draw_mistakes(found, images), directory / MISTAKES)


def worst_mistakes(found: Evaluation) -> np.ndarray:
    """Return the places of the mistakes whose wrong class is surest, the surest first."""
    wrong = np.flatnonzero(~found.right)
    sure = found.log_probabilities[wrong, found.predictions[wrong]]
    return wrong[np.argsort(-sure, kind="stable")][:SHOWN]


def draw_curves(epochs: Sequence[EpochRecord]) -> Figure:
    """Return loss, validation accuracy and learning rate over the steps."""
    steps = [epoch.step for epoch in epochs]
    figure = Figure(figsize=(WIDTH, 5.6), layout="constrained", facecolor="white")
    top, middle, bottom = figure.subplots(3, sharex=True, height_ratios=(2, 2, 1))
    mark = "o" if len(steps) < 40 else None
    for values, colour, name in (
        ([epoch.loss for epoch in epochs], BLUE, "training"),
        ([epoch.validation_loss for epoch in epochs], ORANGE, "validation"),
    ):
        top.plot(steps, values, color=colour, label=name, marker=mark, markersize=3)
    top.set_ylabel("loss, nats")
    top.legend(frameon=False)
    accuracies = [epoch.validation_accuracy for epoch in epochs]
    best = int(np.argmax(accuracies))
    middle.plot(steps, accuracies, color=ORANGE, marker=mark, markersize=3)
    middle.plot(steps[best], accuracies[best], "o", color=INK, markersize=5)
    middle.set_title(
        f"best: {accuracies[best]:.1%} after epoch {epochs[best].epoch}", loc="left", color=INK
    )
    middle.set_ylabel("validation accuracy")
    middle.yaxis.set_major_formatter(_percent())
    rates = [epoch.learning_rate for epoch in epochs]
    bottom.plot(steps, rates, color=GREY, marker=mark, markersize=3)
    bottom.set(ylabel="learning rate", xlabel="step", ylim=(0, None), xlim=(0, None))
    bottom.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for axis in (top, middle, bottom):
        _clear(axis)
    figure.align_ylabels()
    return figure


def draw_confusion(found: Evaluation) -> Figure:
    """Return what each true class is taken for, as shares of its images."""
    table, names = found.confusion, _short(found.classes)
    shares = table / np.maximum(1, table.sum(1, keepdims=True))
    count = len(names)
    figure = Figure(figsize=(WIDTH, WIDTH + 0.9), layout="constrained", facecolor="white")
    axis = figure.subplots()
    faint = PowerNorm(0.5, vmin=0, vmax=1)  # so that one image in a hundred is seen
    image = axis.imshow(shares, cmap="Blues", norm=faint, interpolation="nearest")
    axis.set(xlabel="said class", ylabel="true class")
    if count <= WITH_NAMES:
        size = min(8.0, 130 / count)
        axis.set_xticks(range(count), names, rotation=90, fontsize=size)
        axis.set_yticks(range(count), names, fontsize=size)
    else:
        pairs = [f"{_one(t)} said {_one(s)}: {n}" for t, s, n in found.worst_pairs(3)]
        axis.set_xlabel("\n".join(["said class (by number)", *pairs]))
    if count <= WITH_NUMBERS:
        for (row, column), images in np.ndenumerate(table):
            if images:
                colour = "white" if shares[row, column] > 0.4 else INK
                axis.text(
                    column, row, f"{images}", ha="center", va="center", color=colour,
                    fontsize=min(9.0, 64 / count),
                )  # fmt: skip
    axis.tick_params(length=0)
    axis.spines[:].set_color("#D3D8DE")
    bar = figure.colorbar(image, ax=axis, location="top", shrink=0.8, aspect=40, format=_percent())
    bar.set_ticks([0.01, 0.1, 0.25, 0.5, 1])
    bar.ax.tick_params(length=0)
    bar.set_label("share of the true class's images")
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def draw_classes(result: SplitResult) -> Figure:
    """Return the accuracy of each class with its 95 % interval, the worst first.

    Of more than ROWS classes only the worst.
    """
    held = [each for each in result.classes if each.images]
    ordered = sorted(held, key=lambda each: (each.right / each.images, each.name))
    shown = ordered[:ROWS]
    height = 1.1 + 0.22 * len(shown)
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
    axis = figure.subplots()
    rows = np.arange(len(shown))
    shares = np.array([each.right / each.images for each in shown])
    ends = np.array([each.interval for each in shown])
    axis.hlines(rows, ends[:, 0], ends[:, 1], color=BLUE, linewidth=2, alpha=0.45)
    axis.plot(shares, rows, "o", color=BLUE, markersize=4.5)
    axis.axvline(result.accuracy, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    axis.set_yticks(rows, _labels(shown))
    axis.set_ylim(len(shown) - 0.4, -0.6)
    axis.set_xlim(min(0.9, float(ends.min()) - 0.02), 1.01)
    axis.xaxis.set_major_formatter(_percent())
    title = f"all {result.accuracy:.1%} (dashed)"
    if len(held) > len(shown):
        title += f"\nthe worst {len(shown)} of {len(held)} classes"
    axis.set_title(title, loc="left", color=INK)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_xlabel("accuracy, with its 95 % interval")
    _clear(axis)
    return figure


def draw_mistakes(found: Evaluation, images: Sequence[np.ndarray]) -> Figure:
    """Return the worst mistakes, the surest first.

    Args:
        found: What was said of all images.
        images: What `worst_mistakes` names, as pixels of uint8, (H, W, 3).
    """
    worst = worst_mistakes(found)
    rows = max(1, -(-len(worst) // ACROSS))
    size = (WIDTH, 2.15 * rows + 0.2) if worst.size else (WIDTH, 0.8)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    axes = figure.subplots(rows, ACROSS, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    if not worst.size:
        figure.text(0.5, 0.5, "no mistakes", ha="center", va="center", color=INK)
    for axis, place, pixels in zip(axes, worst, images, strict=False):
        said, true = int(found.predictions[place]), int(found.labels[place])
        axis.imshow(pixels, interpolation="nearest" if pixels.shape[0] < 64 else "antialiased")
        share = np.exp(found.log_probabilities[place, said])
        axis.set_title(
            f"{_one(found.classes[true])}\nsaid {_one(found.classes[said])}\n{share:.1%} sure",
            loc="left", color=INK, linespacing=1.15,
        )  # fmt: skip
    return figure


def _labels(classes: Sequence[ClassResult]) -> list[str]:
    return [f"{_one(each.name)} ({each.images:,})" for each in classes]


def _short(names: Sequence[str]) -> list[str]:
    return [_one(name) for name in names]


def _one(name: str) -> str:
    name = in_line(name)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _percent() -> FuncFormatter:
    return FuncFormatter(lambda share, _: f"{100 * share:g} %")


def _clear(axis: Axes) -> None:
    axis.grid(color="#E8E8E8", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(length=0)
    axis.spines[["top", "right"]].set_visible(False)
