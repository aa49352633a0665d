"""Draw docs/pictures/draw_*.svg with `depthwise draw`: `python tools/draw_architectures.py`."""

import sys
from pathlib import Path

from depthwise.cli.app import app

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"

# the picture's name -> what is said to `depthwise draw`
COMMANDS = {
    "draw_mobilenet_v2": "mobilenet_v2",
    "draw_inception": "googlenet",
    "draw_standard": "conv --kind standard",
    "draw_grouped": "conv --kind grouped",
    "draw_depthwise": "conv --kind depthwise",
    "draw_pointwise": "conv --kind pointwise",
    "draw_separable": "conv --kind separable",
    "draw_dilated": "conv --kind dilated --size 7",
    "draw_transposed": "conv --kind transposed",
    "draw_deformable": "conv --kind deformable --size 7",
    "draw_ghost": "conv --kind ghost --kernel 3",
}


def draw_all(folder: Path) -> None:
    """Write every picture into `folder`."""
    for name, words in COMMANDS.items():
        arguments = ["draw", *words.split(), "--out", str(folder / f"{name}.svg")]
        app(arguments, standalone_mode=False)


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES)
