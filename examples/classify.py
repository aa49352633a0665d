"""Compiles a network, saves it, opens it again and names what is in a photograph.

Shows the whole of the Python interface: weights, raw pixels as input, `compile`, `save` and `load`.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import depthwise as dw
from depthwise.weights import PHOTOGRAPHS


def compile_network(folder: str) -> None:
    """Compile MobileNetV2 to take pixels as a file has them: bytes, the channels side by side."""
    net = dw.create_model("mobilenet_v2", weights="imagenet")
    trained_with = net.pretrained.preprocessing
    raw = dw.Preparation(trained_with.mean, trained_with.std, "uint8", "nhwc")
    library = dw.compile(net, (1, 3, 224, 224), preparation=raw)
    print(
        f"differs from PyTorch by {library.manifest.verification.error:.0e} of the largest output"
    )
    library.save(folder)


def read_picture(path: Path | str, size: int) -> Image.Image:
    """Return the middle square of a picture, resized."""
    with Image.open(path) as picture:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.convert("RGB").crop((left, top, left + side, top + side))
        return square.resize((size, size), Image.Resampling.BICUBIC)


def main(path: Path | str = PHOTOGRAPHS[0]) -> None:
    """Classify one picture, and leave it as photo.ppm for the programs in C and C++."""
    compile_network("network")
    library = dw.load("network")  # from here on PyTorch is not needed
    picture = read_picture(path, size=224)
    picture.save("photo.ppm")
    scores = library(np.asarray(picture)[None])[0]
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    names = library.manifest.network.labels
    for index in np.argsort(-probabilities)[:3]:
        print(f"{probabilities[index]:.3f}  class {index}, {names[index]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
