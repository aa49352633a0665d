"""Judge: how right the library and its network are on labelled images, and whether they agree."""

import numpy as np

from depthwise.escaping import in_line
from depthwise.files.cache import hash_bytes
from depthwise.report.accuracy_record import AccuracyRecord, ClassAccuracy, Rightness
from depthwise.report.record import Report
from depthwise.runtime.library import load
from depthwise.shipping.network import CurrentNetwork
from depthwise.shipping.request import Request
from depthwise.training.classifier import classifier_of_library, classifier_of_network
from depthwise.training.data.dataset import Dataset, StoredImages
from depthwise.training.judging import Judgement, judge_classifier

SPLIT = "validation"


def judge_accuracy(
    request: Request, network: CurrentNetwork, _: Report
) -> tuple[AccuracyRecord, CurrentNetwork]:
    """Judge the network and the saved library on the same validation images.

    Raises ValueError where these cannot be used.
    """
    if request.data is None:
        return AccuracyRecord(data="", split=SPLIT, network=None), network
    own = classifier_of_network(network.source, request.name, network.labels)
    judged = judge_classifier(own, request.data, SPLIT)
    left_out = len(judged.left_out)
    if not request.build.chosen.runs_here:
        reason = f"This machine cannot run a library for {request.build.chosen.name}."
        record = AccuracyRecord(
            data=request.data.name,
            split=SPLIT,
            network=_rightness(judged),
            left_out=left_out,
            remarks=(reason,),
        )
        return record, network
    library = classifier_of_library(load(request.directory), request.directory, own.classes)
    ours = judge_classifier(library, request.data, SPLIT).beside(judged)
    assert ours.agreement
    record = AccuracyRecord(
        data=request.data.name, split=SPLIT, network=_rightness(judged), library=_rightness(ours),
        left_out=left_out, equal=ours.agreement.equal, ties=ours.agreement.ties,
        different=ours.agreement.different,
    )  # fmt: skip
    return record, network


def _rightness(judged: Judgement) -> Rightness:
    result = judged.result
    classes = tuple(
        ClassAccuracy(
            name=in_line(each.name),
            images=each.images,
            right=each.right,
            accuracy=each.right / each.images,
            interval=each.interval,
        )
        for each in result.classes
        if each.images
    )
    return Rightness(
        images=result.images, right=result.right, accuracy=result.accuracy,
        interval=result.interval, classes=classes,
    )  # fmt: skip


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
