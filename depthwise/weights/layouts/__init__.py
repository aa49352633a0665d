"""Which foreign layouts each of our networks can be loaded from."""

from depthwise.weights.layouts import mobilenet
from depthwise.weights.layouts.layout import Layout

FAMILIES = (mobilenet,)

LAYOUTS: dict[str, tuple[Layout, ...]] = {
    network: layouts for family in FAMILIES for network, layouts in family.LAYOUTS.items()
}
