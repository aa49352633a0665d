"""Which foreign layouts each of our networks can be loaded from."""

from depthwise.weights.layouts import (
    alexnet,
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
from depthwise.weights.layouts.layout import CheckpointLayout

FAMILIES = (
    alexnet,
    vgg,
    googlenet,
    inception_v3,
    inception_v4,
    inception_resnet_v2,
    resnet,
    senet,
    xception,
    mobilenet,
    ghostnet,
)

LAYOUTS: dict[str, tuple[CheckpointLayout, ...]] = {
    network: layouts for family in FAMILIES for network, layouts in family.LAYOUTS.items()
}
