"""Recovery: a slimmed network trained on labelled images, with the original as its teacher.

By one cycle at a large rate, which matters more than how channels were chosen (Le and Hua,
arXiv:2105.03193); at a smaller one where the network is near the original still, from which a large
one would lead it away. The better of both networks is kept.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from depthwise.graph import Graph
from depthwise.graph.exporters.torch import with_weights_of
from depthwise.graph.exporters.torch.naming import name_weights
from depthwise.report.slimming_record import RecoveryRecord
from depthwise.slimming.costs.measuring import run_graph
from depthwise.slimming.slimmed import Slimmed
from depthwise.sources.slimmed_folder import write_slimmed
from depthwise.sources.spec import SLIMMED, is_run
from depthwise.training import Recipe, resume, train
from depthwise.training.calibration_data import CalibrationData
from depthwise.training.keeper import Onlooker
from depthwise.training.run import Run

TEACHER, TRAINING, START = "original", "recovery", "slimmed"  # folders in a slimmed network's
# Of SGD at the cycle's peak: as a share of the images of which the slimmed network names another
# class than the original does, and what it is at least and at most.
RATE, LOWEST, HIGHEST = 0.5, 0.005, 0.05
# Of the loss, the teacher's part. Smoothed labels would have the network unlearn how sure it is.
TAUGHT = 0.9


def check_recoverable(data: CalibrationData) -> None:
    """Raise ValueError where a network cannot be trained on the images that it was slimmed with."""
    if data.dataset is None or data.preprocessing is None:
        raise ValueError(
            f"{data.said} have no labels that can be trained on: --recover needs images as "
            "`depthwise train` takes them, such as a folder with a folder for each class"
        )
    if data.dataset.classes != data.classes:
        raise ValueError(
            f"{data.said} has {len(data.dataset.classes)} classes, and the network "
            f"{len(data.classes)}, or in another order: recovery needs images of all of them"
        )


def is_recovered(folder: Path) -> bool:
    """Tell whether a slimmed network's folder holds a recovery, finished or not."""
    return is_run(folder / TRAINING)


def recover(
    found: Slimmed, original: Graph, data: CalibrationData, recipe: Mapping[str, Any], folder: Path,
    onlooker: Onlooker | None = None,
) -> Slimmed:  # fmt: skip
    """Return a slimmed network trained for some time, or as it was where that is no worse.

    Args:
        found: The network.
        original: What it was made of, which it learns from.
        data: The images that it was slimmed with.
        recipe: How long it may take (time), and other fields of a `Recipe`.
        folder: Where the training is kept; one that was stopped there goes on.
        onlooker: Who is shown how it goes, and may stop it.

    Raises:
        ValueError: The images have no labels, or not those of the network.
        OSError: The folder cannot be written to.
    """
    check_recoverable(data)
    assert data.dataset is not None
    run_folder = folder / TRAINING
    if is_recovered(folder):
        run = resume(run_folder, data.dataset, onlooker=onlooker)
    else:
        for name, graph in ((TEACHER, original), (START, found.graph)):
            write_slimmed(folder / name, graph, found.description)
        taught = Recipe.of({
            "teacher": str(folder / TEACHER), "teacher_share": TAUGHT, "label_smoothing": 0.0,
            "learning_rate": peak_rate(found.record.after.agreement), **recipe,
        })  # fmt: skip
        run = train(
            f"{SLIMMED}{folder / START}", data.dataset, taught, directory=run_folder,
            onlooker=onlooker,
        )  # fmt: skip
    # the weights' names are those that training gave them
    trained = with_weights_of(name_weights(found.graph), run.network())
    return _better(found, trained, data, run)


def peak_rate(agreement: float) -> float:
    """Return the rate for a network that names the original's class in this share of images."""
    return min(HIGHEST, max(LOWEST, RATE * (1 - agreement)))


def _better(found: Slimmed, trained: Graph, data: CalibrationData, run: Run) -> Slimmed:
    """Return whichever names more of the validation images rightly."""
    assert data.validation is not None
    images, labels = data.validation
    before, after = (
        float((run_graph(graph, images).argmax(1).numpy() == labels).mean())
        for graph in (found.graph, trained)
    )
    seconds = run.result.seconds if run.result else 0.0
    record = RecoveryRecord(seconds=seconds, before=before, after=after, kept=after > before)
    update = found.record.model_copy(update={"recovery": record})
    return replace(found, graph=trained if record.kept else found.graph, record=update)
