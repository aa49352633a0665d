"""Every network of the documents, one file a family; importing this package registers them."""

import sys
from types import ModuleType

from depthwise.networks import (
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
from depthwise.networks.classifier import Classifier
from depthwise.networks.registry import Entry, construct, find_network, networks

__all__ = ["Classifier", "Entry", "construct", "find_network", "networks"]

FAMILIES = (
    alexnet, vgg, googlenet, bn_inception, inception_v3, inception_v4, inception_resnet_v2, resnet,
    senet, xception, mobilenet, ghostnet,
)  # fmt: skip


class _Package(ModuleType):
    """This package can be called: `depthwise.networks()` is also the list of names."""

    def __call__(self) -> list[str]:
        return networks()


sys.modules[__name__].__class__ = _Package
