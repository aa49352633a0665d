"""Draw docs/pictures/costs_mobilenet_v1.svg for docs/counting.md: `python tools/draw_costs.py`."""

from pathlib import Path

import torch

from depthwise.analysis import cost
from depthwise.families import construct
from depthwise.report import cost_picture

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"

if __name__ == "__main__":
    with torch.device("meta"):
        net = construct("mobilenet_v1")
    cost_picture(cost(net, (1, 3, 224, 224)), PICTURES / "costs_mobilenet_v1.svg")
