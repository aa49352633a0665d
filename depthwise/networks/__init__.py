"""Every network of the documents, one file a family; importing this package registers them."""

import sys
from types import ModuleType

from depthwise.networks import mobilenet
from depthwise.networks.classifier import Classifier
from depthwise.networks.registry import Entry, construct, find_network, networks

__all__ = ["Classifier", "Entry", "construct", "find_network", "mobilenet", "networks"]


class _Package(ModuleType):
    """This package can be called: `depthwise.networks()` is also the list of names."""

    def __call__(self) -> list[str]:
        return networks()


sys.modules[__name__].__class__ = _Package
