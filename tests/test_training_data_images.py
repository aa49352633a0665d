"""Any image as a square of pixels: what `Preprocessing` gives, kept once, broken ones left out."""

import os
import resource
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from depthwise.errors import BuildError
from depthwise.training.data import kept_squares, squares
from depthwise.training.data.dataset import ImageSplit
from depthwise.training.data.decode import decode_square, shorter_side
from depthwise.training.data.labelled_files import FileImages
from depthwise.training.data.squares import HeldSquares, ReadSquares, fetch, prepare
from depthwise.weights import PHOTOGRAPHS, Preprocessing, pictures

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def photograph(size):
    with Image.open(PHOTOGRAPHS[0]) as image:
        return image.convert("RGB").resize(size)


def as_predicted(path, side):
    """Return what a network sees of a file when it predicts, as the pixels that it came from."""
    plain = Preprocessing(
        resize=side, crop=side, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1)
    )
    return (plain.apply(path)[0] * 255).round().to(torch.uint8).numpy()


def write_every_kind(folder):
    """Write an image of every kind that is read, and return the paths."""
    image, exif = photograph((60, 45)), Image.Exif()
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        image.save(folder / f"turned{orientation}.jpg", exif=exif)
    image.save(folder / "turned.png", exif=exif)
    for mode in ("L", "CMYK"):
        image.convert(mode).save(folder / f"{mode}.jpg")
    for mode in ("L", "P", "LA", "RGBA", "1"):
        image.convert(mode).save(folder / f"{mode}.png")
    deep = rng.integers(0, 2**16, (40, 50), np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(deep).save(folder / "deep.tif")
    frames = [photograph((60, 45)).rotate(angle) for angle in (90, 180)]
    for kind in ("gif", "webp", "png"):
        image.save(folder / f"moving.{kind}", save_all=True, append_images=frames)
    image.save(folder / "progressive.jpg", progressive=True, subsampling=0, quality=90)
    image.save(folder / "coded.jpg", subsampling=1, restart_marker_blocks=3)
    for suffix in ("bmp", "ppm", "webp", "tif"):
        image.save(folder / f"plain.{suffix}")
    Image.new("RGB", (1, 1), "red").save(folder / "dot.jpg")
    photograph((200, 3)).save(folder / "long.jpg")
    trailing = (folder / "progressive.jpg").read_bytes() + b"more"
    (folder / "trailing.jpg").write_bytes(trailing)
    return sorted(folder.iterdir())


def test_an_image_of_any_kind_is_what_predict_sees(tmp_path):
    (tmp_path / "images").mkdir()
    for path in write_every_kind(tmp_path / "images"):
        for side in (24, 45, 64):
            found = decode_square(path.read_bytes(), path.name, side)
            assert found.shape == (3, side, side)
            assert np.array_equal(found, as_predicted(path, side)), (path.name, side)


@pytest.mark.parametrize("size", [(7, 5), (5, 7), (33, 64), (101, 64), (99, 98), (64, 64)])
def test_sizes_are_rounded_as_predict_rounds_them(size, tmp_path):
    photograph(size).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for side in (5, 32, 63, 64):
        assert np.array_equal(
            decode_square(content, "a", side), as_predicted(tmp_path / "a.png", side)
        )


def test_the_shorter_side_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "WHOLE", 100)  # pixels: larger ones are decoded at another size
    photograph((90, 50)).save(tmp_path / "a.jpg")
    photograph((30, 70)).save(tmp_path / "a.png")
    assert shorter_side((tmp_path / "a.jpg").read_bytes(), "a.jpg") == 50
    assert shorter_side((tmp_path / "a.png").read_bytes(), "a.png") == 30
    assert shorter_side(np.zeros((7, 9, 3), np.uint8), "pixels") == 7
    with pytest.raises(ValueError, match=r"a.jpg is no image"):
        shorter_side(b"no image", "a.jpg")


def test_pixels_are_squares_of_themselves():
    grey, colours = (
        rng.integers(0, 256, (28, 28), np.uint8),
        rng.integers(0, 256, (9, 5, 3), np.uint8),
    )
    assert np.array_equal(decode_square(grey, "a", 28), np.stack([grey] * 3))
    assert np.array_equal(decode_square(colours, "a", 5), colours[2:7].transpose(2, 0, 1))
    with pytest.raises(ValueError, match="a has no pixels"):
        decode_square(np.empty((0, 5, 3), np.uint8), "a", 8)
    with pytest.raises(ValueError, match="a is empty"):
        decode_square(b"", "a", 8)


def write_broken(folder):
    """Write what is no image, and return what is said of each."""
    cut = PHOTOGRAPHS[0].read_bytes()[:9000]
    (folder / "b-cut.jpg").write_bytes(cut)
    (folder / "c-empty.png").touch()
    (folder / "d-text.gif").write_text("no image")
    Image.new("1", (8, 8)).save(folder / "e-bomb.png")
    content = (folder / "e-bomb.png").read_bytes()
    header = b"IHDR" + 2 * (20_000).to_bytes(4, "big") + content[24:29]
    header += zlib.crc32(header).to_bytes(4, "big")
    (folder / "e-bomb.png").write_bytes(content[:12] + header + content[33:])
    (folder / "f-gone.png").symlink_to("nowhere")
    os.mkfifo(folder / "g-pipe.png")
    return (
        "b-cut.jpg is damaged or truncated", "c-empty.png is empty", "d-text.gif is no image",
        "e-bomb.png has more than 178 million pixels", "no image file at", "g-pipe.png is no plain",
    )  # fmt: skip


def split_of(folder, classes=2):
    paths = sorted(map(str, folder.iterdir()))
    return ImageSplit(FileImages(paths), np.arange(len(paths)) % classes)


def write_images(folder, count):
    folder.mkdir()
    for number in range(count):
        pixels = rng.integers(0, 256, (12, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")


def expected_of(prepared, side):
    return np.stack([as_predicted(name, side) for name in prepared.names])


def test_broken_images_are_left_out(tmp_path):
    write_images(tmp_path / "images", 60)
    said = write_broken(tmp_path / "images")
    split = split_of(tmp_path / "images")
    for _ in range(2):  # decoded, and as kept
        prepared = prepare(split, 8)
        assert len(prepared.squares) == len(prepared.labels) == len(prepared.names) == 60
        for sentence, start in zip(prepared.left_out, said, strict=True):
            assert start in sentence
        assert (prepared.labels == np.arange(66)[:60] % 2).all()
        every = np.arange(60)
        assert np.array_equal(prepared.squares.take(every).numpy(), expected_of(prepared, 8))


def test_too_many_broken_images_are_refused(tmp_path):
    write_images(tmp_path / "images", 20)
    write_broken(tmp_path / "images")
    said = r"3 or more of 26 images cannot be read, and over 10% are not left out: .*b-cut.jpg is"
    with pytest.raises(ValueError, match=said):
        prepare(split_of(tmp_path / "images"), 8)
    assert not list(kept_squares.squares_directory().glob("*.squares"))


def test_files_that_may_not_be_read_are_broken(tmp_path, monkeypatch):
    write_images(tmp_path / "images", 20)
    whole = Path.read_bytes

    def read(path):
        if path.name == "003.png":
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    split = split_of(tmp_path / "images")
    assert prepare(split, 8).left_out == (
        f"{tmp_path}/images/003.png cannot be read: Permission denied",
    )
    with pytest.raises(ValueError, match="Permission denied"):
        split.images.read(3)


def test_a_class_of_broken_images_is_refused(tmp_path):
    write_images(tmp_path / "images", 20)
    (tmp_path / "images" / "010.png").write_bytes(b"")
    labels = np.zeros(20, np.int64)
    labels[10] = 1
    images = split_of(tmp_path / "images").images
    with pytest.raises(ValueError, match=r"no image of a class can be read: .*010.png is empty"):
        prepare(ImageSplit(images, labels), 8)


def test_images_are_decoded_once_and_when_they_change(tmp_path, monkeypatch):
    write_images(tmp_path / "images", 5)
    split = split_of(tmp_path / "images")
    decoded = []
    whole = squares.decode_square
    monkeypatch.setattr(
        squares, "decode_square", lambda *arguments: decoded.append(0) or whole(*arguments)
    )
    for side, count in ((8, 5), (8, 5), (6, 10), (8, 10)):
        prepared = prepare(split, side)
        assert len(decoded) == count
        taken = prepared.squares.take(np.array([3, 0, 3]))
        assert np.array_equal(taken.numpy(), expected_of(prepared, side)[[3, 0, 3]])
    photograph((9, 9)).save(tmp_path / "images" / "002.png")
    prepared = prepare(split, 8)
    assert len(decoded) == 15
    every = np.arange(5)
    assert np.array_equal(prepared.squares.take(every).numpy(), expected_of(prepared, 8))


def test_only_one_of_several_processes_decodes(tmp_path, monkeypatch):
    write_images(tmp_path / "images", 5)
    split = split_of(tmp_path / "images")
    decoded = []
    whole = squares.decode_square

    def slow(*arguments):
        time.sleep(0.05)
        decoded.append(0)
        return whole(*arguments)

    monkeypatch.setattr(squares, "decode_square", slow)
    with ThreadPoolExecutor(3) as pool:
        prepared = list(pool.map(lambda _: prepare(split, 8), range(3)))
    assert len(decoded) == 5
    for each in prepared:
        assert np.array_equal(each.squares.take(np.arange(5)).numpy(), expected_of(each, 8))


def test_damaged_squares_are_decoded_again(tmp_path):
    write_images(tmp_path / "images", 5)
    split = split_of(tmp_path / "images")
    expected = prepare(split, 8).squares.take(np.arange(5))
    (kept,) = kept_squares.squares_directory().glob("*.squares")
    for content in (b"", b"x" * 9, kept.read_bytes()[:-1], kept.read_bytes()[1:]):
        kept.unlink()
        kept.write_bytes(content)
        assert torch.equal(prepare(split, 8).squares.take(np.arange(5)), expected)


def test_what_does_not_fit_is_decoded_when_it_is_read(tmp_path, monkeypatch):
    write_images(tmp_path / "images", 30)
    (tmp_path / "images" / "004.png").write_bytes(b"")
    split = split_of(tmp_path / "images")
    kept = prepare(split, 8)
    assert isinstance(kept.squares, HeldSquares)
    monkeypatch.setattr(squares, "available_bytes", lambda: 0)
    for _ in range(2):
        read = prepare(split, 8)
        assert isinstance(read.squares, ReadSquares)
        assert (read.names, read.left_out) == (kept.names, kept.left_out)
        assert len(read.squares) == 29
        batches = list(rng.permutation(29).reshape(-1, 1).repeat(3, 1))
        for one, other in zip(
            fetch(read.squares, batches), fetch(kept.squares, batches), strict=True
        ):
            assert torch.equal(one, other)
            assert one.is_contiguous()
    (tmp_path / "images" / "000.png").unlink()
    with pytest.raises(ValueError, match=r"no image file at .*000.png \(it was whole when"):
        read.squares.take(np.array([1, 0]))


def test_a_small_disk_leaves_squares_in_memory(tmp_path, monkeypatch):
    write_images(tmp_path / "images", 30)
    (tmp_path / "images" / "004.png").write_bytes(b"")
    monkeypatch.setattr(squares, "_free_on_disk", lambda: 0)
    prepared = prepare(split_of(tmp_path / "images"), 8)
    assert isinstance(prepared.squares, HeldSquares)
    assert len(prepared.squares) == 29
    assert np.array_equal(prepared.squares.take(np.arange(29)).numpy(), expected_of(prepared, 8))
    assert not kept_squares.squares_directory().exists()


def test_batches_are_read_ahead_and_in_order():
    taken = []

    class Slow:
        def take(self, indices):
            time.sleep(0.02 if indices[0] % 2 else 0)
            taken.append(int(indices[0]))
            return torch.from_numpy(indices)

    def endless():
        number = 0
        while True:
            yield np.array([number])
            number += 1

    found = fetch(Slow(), endless())
    assert [int(next(found)) for _ in range(20)] == list(range(20))
    found.close()
    assert set(range(20)) <= set(taken)
    assert max(taken) < 20 + squares.AHEAD + 1


def test_a_full_disk_is_said(tmp_path):
    write_images(tmp_path / "images", 30)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # bytes that a file may have
    try:
        with pytest.raises(
            BuildError, match=r"cannot write to the cache of decoded images: .*large"
        ):
            prepare(split_of(tmp_path / "images"), 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    left = sorted(path.suffix for path in kept_squares.squares_directory().iterdir())
    assert left == [".lock"]


def test_warnings_of_pillow_are_no_faults(tmp_path, monkeypatch):
    for name in ("a.jpg", "a.png"):
        photograph((60, 45)).save(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    for name in ("a.jpg", "a.png"):
        assert decode_square((tmp_path / name).read_bytes(), name, 9).shape == (3, 9, 9)


def test_old_squares_are_removed(tmp_path, monkeypatch):
    write_images(tmp_path / "images", 3)
    split = split_of(tmp_path / "images")
    monkeypatch.setattr(kept_squares, "MOST", 2 * (3 * 8 * 8 + 50))
    for index in range(3):
        part = ImageSplit(FileImages([split.images.name(index)]), np.zeros(1, np.int64))
        prepare(part, 8)
        time.sleep(0.01)
    assert len(list(kept_squares.squares_directory().glob("*.squares"))) == 2
    monkeypatch.setattr(kept_squares, "MOST", 0)
    prepare(split, 8)
    assert len(list(kept_squares.squares_directory().glob("*.squares"))) == 1


def test_sources_without_files_are_held_in_memory():
    class Arrays:
        def __len__(self):
            return 4

        def name(self, index):
            return f"image {index}"

        def read(self, index):
            return np.full((8, 8), index, np.uint8)

    prepared = prepare(ImageSplit(Arrays(), np.array([0, 1, 0, 1])), 8)
    assert prepared.squares.take(np.array([2, 3]))[:, 0, 0, 0].tolist() == [2, 3]
    assert prepared.names == ["image 0", "image 1", "image 2", "image 3"]
    assert not kept_squares.squares_directory().exists()
