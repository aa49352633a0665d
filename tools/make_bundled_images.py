"""Rebuild depthwise/data/fashion_mnist_12000.png from Fashion-MNIST's four IDX files.

    python tools/make_bundled_images.py                  from where Debian's package puts them
    python tools/make_bundled_images.py FOLDER           compressed by gzip or not

The first 1,000 training images of each class, then the first 200 test images of each: one row after
another, class by class. The same files and the same Pillow give the same bytes; any Pillow gives
the same pixels, whose hash tests/test_named_sets.py has.
"""

import argparse
import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

from depthwise.training.data.mosaic import (
    BUNDLED_IMAGES,
    COLUMNS,
    FASHION,
    SIDE,
    TEST_PER_CLASS,
    TRAIN_PER_CLASS,
)
from depthwise.training.data.named import DEBIAN, read_fashion_mnist


def first_of_each_class(folder: Path, part: str, count: int) -> np.ndarray:
    """Return the first `count` images of each class, class by class: (N, 28, 28)."""
    pixels, labels = read_fashion_mnist(folder, part)
    rows = [np.flatnonzero(labels == label)[:count] for label in range(len(FASHION))]
    return pixels[np.concatenate(rows)]


def mosaic(folder: Path) -> bytes:
    """Return the file to bundle. Raises ValueError where a file is missing or damaged."""
    tiles = np.concatenate(
        [
            first_of_each_class(folder, "train", TRAIN_PER_CLASS),
            first_of_each_class(folder, "t10k", TEST_PER_CLASS),
        ]
    )
    picture = tiles.reshape(-1, COLUMNS, SIDE, SIDE).swapaxes(1, 2).reshape(-1, COLUMNS * SIDE)
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG", optimize=True)
    return content.getvalue()


def main() -> None:
    """Write the file, or say why not."""
    parser = argparse.ArgumentParser(description="Rebuild the bundled images.")
    parser.add_argument("folder", type=Path, nargs="?", default=DEBIAN, help="of the IDX files")
    parser.add_argument("--out", type=Path, default=BUNDLED_IMAGES)
    arguments = parser.parse_args()
    content = mosaic(arguments.folder)
    arguments.out.write_bytes(content)
    print(f"{arguments.out}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
