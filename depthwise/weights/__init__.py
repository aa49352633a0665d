"""Weights from checkpoints, ours, torchvision's and timm's, and the bundled ones."""

from depthwise.weights.bundled import (
    IMAGENET,
    PHOTOGRAPHS,
    Pretrained,
    WeightsRecord,
    create_model,
    find_pretrained,
    read_labels,
)
from depthwise.weights.load import load_weights
from depthwise.weights.preprocessing import Preprocessing, imagenet_preprocessing

__all__ = [
    "IMAGENET",
    "PHOTOGRAPHS",
    "Preprocessing",
    "Pretrained",
    "WeightsRecord",
    "create_model",
    "find_pretrained",
    "imagenet_preprocessing",
    "load_weights",
    "read_labels",
]
