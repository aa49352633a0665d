"""Pictures of every size and kind: seen as ever, in little memory, or refused in a sentence."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from terminal import run
from torchvision.transforms import InterpolationMode, v2

from depthwise.weights import PHOTOGRAPHS, Preprocessing, pictures


def plain(**changes):
    usual = {"resize": 64, "crop": 56, "interpolation": "bilinear"}
    return Preprocessing(**{**usual, **changes}, mean=(0, 0, 0), std=(1, 1, 1))


def noisy(size, mode="RGB"):
    """Return a photograph of a size, with noise that no rounding hides in."""
    rng = np.random.default_rng(0)
    with Image.open(PHOTOGRAPHS[0]) as image:
        pixels = np.asarray(image.convert("RGB").resize(size), int)
    pixels = np.clip(pixels + rng.integers(-20, 20, pixels.shape), 0, 255)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def as_documented(prepare, image):
    """Return what is computed of a whole picture: resized, cropped, of [0, 1]."""
    steps = v2.Compose(
        [
            v2.Resize(prepare.resize, InterpolationMode(prepare.interpolation), antialias=True),
            v2.CenterCrop(prepare.crop),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(prepare.mean), list(prepare.std)),
        ]
    )
    return steps(image.convert("RGB"))[None]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK"])
def test_a_large_picture_is_seen_as_a_small_one(mode, interpolation, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "WHOLE", 0)
    monkeypatch.setattr(pictures, "STRIP", 20_000)  # pixels: many strips
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    noisy((500, 333), mode).save(path)
    prepare = plain(interpolation=interpolation)
    with Image.open(path) as image:
        expected = as_documented(prepare, image)
    assert torch.equal(prepare.apply(path), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_picture_is_turned(orientation, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = orientation
    noisy((400, 300)).save(tmp_path / "a.png", exif=exif)
    noisy((400, 300)).save(tmp_path / "a.tif", exif=exif)
    expected = [plain().apply(tmp_path / name) for name in ("a.png", "a.tif")]
    monkeypatch.setattr(pictures, "WHOLE", 0)
    for name, usual in zip(("a.png", "a.tif"), expected, strict=True):
        found = plain().apply(tmp_path / name)
        assert (found - usual).abs().max() <= 1.01 / 255  # columns are rounded before rows


@pytest.mark.parametrize("size", [(20_000, 2), (2, 20_000), (3001, 7), (5101, 300), (9000, 500)])
def test_of_a_long_picture_the_middle_is_seen(size):
    image = noisy(size)
    found = plain().apply(image)
    assert (found - as_documented(plain(), image)).abs().max() <= 2.01 / 255


def test_a_large_jpeg_is_made_smaller_as_it_is_decoded(tmp_path, monkeypatch):
    noisy((1600, 1200)).save(tmp_path / "a.jpg", quality=95)
    expected = plain().apply(tmp_path / "a.jpg")
    monkeypatch.setattr(pictures, "WHOLE", 10**6)
    found = plain().apply(tmp_path / "a.jpg")
    assert 0 < (found - expected).abs().max() <= 8 / 255
    assert (found - expected).abs().mean() < 1 / 255


MEASURE = """
import resource, sys
from depthwise.weights import imagenet_preprocessing
prepare, peak = imagenet_preprocessing(), lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prepare.apply(sys.argv[1])
before = peak()
prepare.apply(sys.argv[2])
print((peak() - before) // 1024)
"""


@pytest.mark.parametrize(
    ("name", "mode", "size", "most"),
    [
        ("wide.png", "RGB", (20_000, 2), 60),
        ("wide.jpg", "RGB", (20_000, 2), 60),
        ("large.jpg", "RGB", (12_000, 12_000), 100),
        ("large.png", "L", (12_000, 12_000), 250),  # 144 as it is decoded
    ],
)
def test_megabytes_that_a_picture_takes(name, mode, size, most, tmp_path):
    path = tmp_path / name
    Image.new(mode, size, 128).save(path)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, PHOTOGRAPHS[0], path],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < most


def broken(folder):
    """Fill a folder with what is no picture, and return {name: what is said of it}."""
    cut = PHOTOGRAPHS[0].read_bytes()[:9000]
    texts = {
        "empty.jpg": (b"", "is empty"),
        "text.png": (b"no image", "is no image that Pillow can read"),
        "cut.jpg": (cut, "is damaged or truncated"),
        "phone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIC picture"),
        "ghost.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no image that"),
    }
    for name, (content, _) in texts.items():
        (folder / name).write_bytes(content)
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to("nowhere")
    return {
        **{name: said for name, (_, said) in texts.items()},
        "bomb.png": "has more than 178 million pixels",
        "pipe.png": "is no plain file",
        "dangling.png": "no image file at",
    }


def test_what_is_no_picture_is_said_in_words(tmp_path):
    (tmp_path / "dir.jpg").mkdir()
    for name, said in {**broken(tmp_path), "dir.jpg": "is a directory"}.items():
        with pytest.raises(ValueError, match=said):
            plain().apply(tmp_path / name)


def test_odd_pictures_are_read(tmp_path):
    Image.new("RGB", (1, 1), "red").save(tmp_path / "dot.png")
    noisy((90, 80)).save(
        tmp_path / "moves.gif", save_all=True, append_images=[Image.new("RGB", (90, 80))]
    )
    Image.fromarray(np.full((80, 90), 51 * 257, np.uint16)).save(tmp_path / "deep.png")
    for path in tmp_path.iterdir():
        assert plain().apply(path).shape == (1, 3, 56, 56)
    assert plain().apply(tmp_path / "deep.png").mean() == pytest.approx(0.2, abs=0.002)
    assert plain().apply(tmp_path / "dot.png")[0, :, 0, 0].tolist() == [1, 0, 0]


def test_the_callers_own_picture_stays_as_it_is():
    image = noisy((400, 300))
    image.getexif()[0x0112] = 6
    before = image.tobytes()
    plain().apply(image)
    assert image.size == (400, 300)
    assert image.tobytes() == before


def test_predict_leaves_out_what_is_no_picture(tmp_path, capsys):
    names = broken(tmp_path)
    photos = [PHOTOGRAPHS[0], *(tmp_path / name for name in names)]
    code, out, err = run("predict", *photos, "--json", capsys=capsys)
    assert code == 0
    assert "Egyptian cat" in out
    assert all(f"depthwise: left out: {tmp_path / name}" in err for name in list(names)[:-1])
    assert len(err.splitlines()) == len(names)
    code, out, err = run("predict", *photos[1:], capsys=capsys)
    assert (code, out) == (2, "")
    assert err.startswith(f"depthwise: {tmp_path / 'empty.jpg'} is empty; ")
    assert "and 4 more like it" in err
