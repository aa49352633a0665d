"""Judge: how right the library and its network are on labelled images, and whether they agree."""

import numpy as np

from depthwise.escaping import in_line
from depthwise.files.cache import hash_bytes
from depthwise.report.accuracy_record import AccuracyRecord
from depthwise.report.record import Report
from depthwise.runtime.library import load
from depthwise.shipping.network import CurrentNetwork
from depthwise.shipping.request import Request
from depthwise.training.classifier import classifier_of_library, classifier_of_network
from depthwise.training.data.dataset import Dataset, StoredImages
from depthwise.training.judging import Agreement, judge_classifiers
from depthwise.training.result import SplitResult

SPLIT = "validation"


def judge_accuracy(
    request: Request, network: CurrentNetwork, _: Report
) -> tuple[AccuracyRecord, CurrentNetwork]:
    """Judge the network and the saved library on the same validation images.

    Raises ValueError where these cannot be used.
    """
    if request.data is None:
        return AccuracyRecord(data="", split=SPLIT, network=None), network
    classifiers = [classifier_of_network(network.source, request.name, network.labels)]
    target = request.build.chosen
    if target.runs_here:
        library, names = load(request.directory), classifiers[0].classes
        classifiers.append(classifier_of_library(library, request.directory, names))
    judged, *others = judge_classifiers(classifiers, request.data, SPLIT)
    record = AccuracyRecord(
        data=request.data.name, split=SPLIT, network=_shown(judged.result),
        left_out=len(judged.left_out),
    )  # fmt: skip
    if not others:
        remark = f"This machine cannot run a library for {target.full_name}."
        return record.model_copy(update={"remarks": (remark,)}), network
    agreement = Agreement.of(judged.found, others[0].found)
    compared = {
        "library": _shown(others[0].result), "equal": agreement.equal, "ties": agreement.ties,
        "different": agreement.different,
    }  # fmt: skip
    return record.model_copy(update=compared), network


def _shown(result: SplitResult) -> SplitResult:
    """Return it with the classes that have images, their names as a page can show them."""
    shown = (
        each.model_copy(update={"name": in_line(each.name)})
        for each in result.classes
        if each.images
    )
    return result.model_copy(update={"classes": tuple(shown)})


def data_key(data: Dataset | None) -> list[object]:
    """Return what tells the validation images from others, in values that JSON can hold."""
    if data is None:
        return []
    images, labels = data.validation.images, data.validation.labels
    if isinstance(images, StoredImages):
        pixels = images.fingerprint()
    else:
        pixels = hash_bytes(b"".join(_bytes(images.read(i)) for i in range(len(images))))
    return [data.name, list(data.classes), hash_bytes(labels.tobytes()), pixels]


def _bytes(image: bytes | np.ndarray) -> bytes:
    return image if isinstance(image, bytes) else image.tobytes()
