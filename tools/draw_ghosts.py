"""Draw the pictures of docs/ghosts.md, in five minutes: `python tools/draw_ghosts.py`."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from depthwise.training.data.opening import open_dataset
from depthwise.weights import PHOTOGRAPHS

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
BUNDLED, BAG = "bundled", 1600  # the first bag among its test images


def depthwise(*arguments: str | Path) -> None:
    """Run a command."""
    subprocess.run([sys.executable, "-m", "depthwise", *map(str, arguments)], check=True)


def draw(network: str, image: Path, name: str) -> None:
    """Draw the maps of a network's first convolution."""
    depthwise("look", network, image, "--layer", "stem.conv", "--out", PICTURES / name)


def draw_trained(folder: Path) -> None:
    """Train a network on the bundled images in a folder, and draw what it makes of one of them."""
    image, run = folder / "bag.png", folder / "fashion"
    test = open_dataset(BUNDLED).test
    assert test
    Image.fromarray(test.images.read(BAG)).save(image)
    depthwise(
        "train", BUNDLED, "--network", "mobilenet_v1", "--epochs", "2", "--precision", "fp32",
        "--out", run,
    )  # fmt: skip
    draw(f"run:{run}", image, "ghosts_trained.png")


if __name__ == "__main__":
    draw("mobilenet_v2", PHOTOGRAPHS[0], "ghosts.png")
    with TemporaryDirectory() as folder:
        draw_trained(Path(folder))
