"""Sets of images known by name: the bundled one, Fashion-MNIST's IDX files, CIFAR-10's pickles."""

import gzip
import hashlib

import numpy as np
import pytest

from depthwise.training.data import mosaic, named
from depthwise.training.data.named import open_named

DEBIAN = named.DEBIAN
# of the pixels that Zalando's files have, sorted out by class
HASHES = {
    "train": "c0c6726b84344f71ed5f3f778113ef72d81c3e38038638a076d9f7b48ef3af3c",
    "t10k": "80f041a1db53aeefce90d32bb6094e616abf55eed82a9c247b6c2a44a773acf7",
}


def test_the_bundled_set_holds_what_it_says():
    data = open_named("bundled", seed=3)
    parts = (data.train, data.validation, data.test)
    assert [len(part.images) for part in parts] == [9000, 1000, 2000]
    for part, each in zip(parts, (900, 100, 200), strict=True):
        assert np.bincount(part.labels).tolist() == [each] * 10
        assert part.labels.dtype == np.int64
    image = data.train.images.read(17)
    assert image.shape == (28, 28)
    assert image.dtype == np.uint8
    assert len(data.classes) == 10
    assert mosaic.BUNDLED_IMAGES.stat().st_size < 6_000_000
    for (pixels, _), expected in zip(mosaic.read_bundled(), HASHES.values(), strict=True):
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == expected


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="NOT TESTED: apt install dataset-fashion-mnist")
def test_the_bundled_images_are_the_first_of_each_class():
    for (pixels, labels), part in zip(mosaic.read_bundled(), HASHES, strict=True):
        files = (DEBIAN / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
        images, numbers = (gzip.decompress(file.read_bytes()) for file in files)
        images = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
        numbers = np.frombuffer(numbers, np.uint8, offset=8)
        for label in range(10):
            mine = pixels[labels == label]
            assert np.array_equal(mine, images[numbers == label][: len(mine)])


def test_a_split_depends_on_its_seed_alone():
    first, same, other = (open_named("bundled", seed=seed) for seed in (1, 1, 2))
    name = "{0.images.numbers}".format
    assert name(first.validation) == name(same.validation) != name(other.validation)
    everyone = np.concatenate([first.train.images.numbers, first.validation.images.numbers])
    assert np.array_equal(np.sort(everyone), np.arange(10_000))
