"""The colours of the kinds of layers: Okabe and Ito's, told apart by the colour-blind.

Greys are for what has no multiply-adds.
"""

COLOURS = {
    "standard": "#E69F00",
    "pointwise": "#0072B2",
    "depthwise": "#D55E00",
    "grouped": "#009E73",
    "dilated": "#CC79A7",
    "transposed": "#56B4E9",
    "deformable": "#000000",
    "linear": "#F0E442",
    "normalisation": "#8C8C8C",
    "activation": "#D0D0D0",
    "other": "#5A5A5A",
}
SAME_COLOUR = {"matrix product": "linear"}


def colour_name(kind: str) -> str:
    """Return the name among COLOURS of a kind of layer."""
    name = SAME_COLOUR.get(kind, kind)
    return name if name in COLOURS else "other"
