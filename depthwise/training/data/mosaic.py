"""The bundled images: 12,000 of Fashion-MNIST in one PNG file, tile beside tile."""

import numpy as np
from PIL import Image

from depthwise.weights.bundled import DATA

BUNDLED_IMAGES = DATA / "fashion_mnist_12000.png"
FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
TRAIN_PER_CLASS, TEST_PER_CLASS = 1000, 200
COLUMNS = 100
SIDE = 28

LabelledPixels = tuple[np.ndarray, np.ndarray]  # pixels of uint8 and labels of int64


def read_bundled() -> tuple[LabelledPixels, LabelledPixels]:
    """Return the bundled training images and test images, each class by class."""
    with Image.open(BUNDLED_IMAGES) as mosaic:
        rows = np.asarray(mosaic)
    tiles = rows.reshape(-1, SIDE, COLUMNS, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE)
    classes = np.arange(len(FASHION))
    train, test = classes.repeat(TRAIN_PER_CLASS), classes.repeat(TEST_PER_CLASS)
    return (tiles[: len(train)], train), (tiles[len(train) :], test)
