"""Pictures for people. Four need matplotlib; the others are SVG of our own.

cost_picture (what each layer costs), speed_picture (what is saved in theory, and in time),
ghost_picture (feature maps), tradeoff_picture (accuracy by width and resolution): by matplotlib -
network_picture (a network's blocks): steps, branches, cards (the graph as a reader sees it),
layout, labels - conv_picture (a convolution's sliding windows): windows, planes - svg, colours.
"""

from depthwise.report.conv_picture import conv_picture
from depthwise.report.cost_picture import cost_picture
from depthwise.report.ghost_picture import ghost_picture
from depthwise.report.network_picture import network_picture
from depthwise.report.speed_picture import speed_picture

__all__ = ["conv_picture", "cost_picture", "ghost_picture", "network_picture", "speed_picture"]
