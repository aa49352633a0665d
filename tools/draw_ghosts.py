"""Draw docs/pictures/ghosts.png for docs/ghosts.md: `python tools/draw_ghosts.py`."""

from pathlib import Path

from depthwise.cli import main
from depthwise.weights import PHOTOGRAPHS

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"

if __name__ == "__main__":
    main(
        ["look", "mobilenet_v2", str(PHOTOGRAPHS[0]), "--layer", "stem.conv",
         "--out", str(PICTURES / "ghosts.png")]
    )  # fmt: skip
