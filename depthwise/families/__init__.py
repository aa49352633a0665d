"""Every network of the documents, one file a family; importing this package registers them."""

from depthwise.families import (
    alexnet,
    bn_inception,
    ghostnet,
    googlenet,
    inception_resnet_v2,
    inception_v3,
    inception_v4,
    mobilenet,
    resnet,
    senet,
    vgg,
    xception,
)
from depthwise.families.classifier import Classifier
from depthwise.families.registry import Entry, construct, find_network, list_models

__all__ = ["Classifier", "Entry", "construct", "find_network", "list_models"]

FAMILIES = (
    alexnet, vgg, googlenet, bn_inception, inception_v3, inception_v4, inception_resnet_v2, resnet,
    senet, xception, mobilenet, ghostnet,
)  # fmt: skip
