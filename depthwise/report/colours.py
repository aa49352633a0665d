"""Okabe and Ito's colours, told apart by the colour-blind, and which kind of layer has which."""

ORANGE, YELLOW, GREEN, PURPLE = "#E69F00", "#F0E442", "#009E73", "#CC79A7"
BLUE, SKY, VERMILION, BLACK = "#0072B2", "#56B4E9", "#D55E00", "#000000"
LIGHT_BLUE = "#3A9BD9"  # BLUE on a dark page

# Greys are for what has no multiply-adds.
COLOURS = {
    "standard": ORANGE,
    "pointwise": BLUE,
    "depthwise": VERMILION,
    "grouped": GREEN,
    "dilated": PURPLE,
    "transposed": SKY,
    "deformable": BLACK,
    "linear": YELLOW,
    "normalisation": "#8C8C8C",
    "activation": "#D0D0D0",
    "other": "#5A5A5A",
}
DARK = {"deformable": "#FFFFFF", "other": "#A5ADB5", "pointwise": LIGHT_BLUE}  # on a dark page
SAME_COLOUR = {"matrix product": "linear"}


def colour_name(kind: str) -> str:
    """Return the name among COLOURS of a kind of layer."""
    name = SAME_COLOUR.get(kind, kind)
    return name if name in COLOURS else "other"
