"""Every network of the documents, one file a family; importing this package registers them."""

from depthwise.networks import mobilenet
from depthwise.networks.classifier import Classifier
from depthwise.networks.registry import Entry, construct, find_network, networks

__all__ = ["Classifier", "Entry", "construct", "find_network", "mobilenet", "networks"]
