"""From a photograph to the names of what is in it."""

import json

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from terminal import run

from depthwise.weights import PHOTOGRAPHS, Preprocessing, create_model, imagenet_preprocessing

# torchvision's mobilenet_v2 with mobilenet_v2-b0353104.pth in float32 and its own transforms,
# over the bundled photographs: the probability of the first class
FLOAT32 = {"chelsea.jpg": ("Egyptian cat", 0.692549), "coffee.jpg": ("espresso", 0.988115)}


def predict(*arguments, capsys):
    return run("predict", *arguments, capsys=capsys)


@pytest.mark.parametrize("photo", PHOTOGRAPHS, ids=lambda photo: photo.name)
def test_names_the_cat_and_the_espresso(photo, capsys):
    code, out, err = predict(photo, "--json", capsys=capsys)
    best = json.loads(out)[str(photo)]
    name, probability = FLOAT32[photo.name]
    assert (code, err, len(best)) == (0, "", 5)
    assert best[0]["class"] == name
    assert best[0]["probability"] == pytest.approx(probability, abs=1e-3)


def test_without_a_photo_the_bundled_ones_are_shown(capsys):
    code, out, _ = predict("--top", "1", capsys=capsys)
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["chelsea.jpg"], ["69.3%", "Egyptian", "cat"], ["coffee.jpg"], ["98.8%", "espresso"],
    ]  # fmt: skip


def test_a_copy_of_the_bundled_weights_brings_its_record(tmp_path, capsys):
    from depthwise.weights import IMAGENET

    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(IMAGENET["mobilenet_v2"].read_bytes())
    code, out, err = predict(PHOTOGRAPHS[1], "--weights", copy, "--top", 1, capsys=capsys)
    assert (code, err) == (0, "")
    assert "espresso" in out


def test_weights_without_a_record_get_the_usual_preprocessing_and_say_so(tmp_path, capsys):
    path = tmp_path / "own.safetensors"
    save_file(create_model("mobilenet_v1", width=0.25, num_classes=3).state_dict(), path)
    code, out, err = predict(
        PHOTOGRAPHS[0], "--network", "mobilenet_v1", "--weights", path,
        "--set", "width=0.25", "--set", "num_classes=3", "--json", capsys=capsys,
    )  # fmt: skip
    assert code == 0
    assert err == (
        f"depthwise: {path} does not record its preprocessing; ImageNet's usual is assumed: "
        "256 pixels, the middle 224\n"
    )
    best = json.loads(out)[str(PHOTOGRAPHS[0])]
    assert {row["class"] for row in best} == {"class 0", "class 1", "class 2"}
    assert sum(row["probability"] for row in best) == pytest.approx(1)


# ------------------------------------------------------------------------- preprocessing


@pytest.fixture
def small():
    return Preprocessing(
        resize=8, crop=8, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1)
    )  # fmt: skip


@pytest.mark.parametrize("photo", PHOTOGRAPHS, ids=lambda photo: photo.name)
def test_preprocessing_equals_torchvisions(photo):
    transforms = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    with Image.open(photo) as image:
        theirs = transforms(image)[None]
        ours = imagenet_preprocessing().apply(image)
    assert ours.shape == (1, 3, 224, 224)
    assert (ours - theirs).abs().max() < 1e-6
    assert torch.equal(imagenet_preprocessing().apply(photo), ours)


def test_preprocessing_is_frozen_and_typed(small):
    with pytest.raises(ValueError, match="frozen"):
        small.crop = 3
    with pytest.raises(ValueError, match="greater than 0"):
        Preprocessing(**{**small.model_dump(), "crop": 0})
    with pytest.raises(ValueError, match="'bilinear' or 'bicubic'"):
        Preprocessing(**{**small.model_dump(), "interpolation": "lanczos"})


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (255, 0, 51), (1, 0, 0.2)),
        ("L", 51, (0.2, 0.2, 0.2)),
        ("I;16", 51 * 257, (0.2, 0.2, 0.2)),
        ("1", 1, (1, 1, 1)),
        ("P", 2, (1, 0, 0.2)),
        ("RGBA", (255, 0, 51, 255), (1, 0, 0.2)),
        ("RGBA", (255, 0, 51, 0), (1, 1, 1)),
        ("LA", (51, 255), (0.2, 0.2, 0.2)),
        ("CMYK", (0, 255, 204, 0), (1, 0, 0.2)),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(small, tmp_path, mode, colour, expected):
    image = Image.new(mode, (9, 8), colour)
    if mode == "P":
        image.putpalette([0, 0, 0, 1, 1, 1, 255, 0, 51])
    path = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    image.save(path)
    pixels = small.apply(path)
    assert pixels.shape == (1, 3, 8, 8)
    assert pixels[0, :, 4, 4].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_transparent_palette_is_laid_over_white(small, tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 51])
    image.save(tmp_path / "image.png", transparency=bytes([255, 0]))
    assert small.apply(tmp_path / "image.png").min() == 1


def test_the_orientation_of_exif_is_followed(small, tmp_path):
    image = Image.new("L", (8, 8))
    image.paste(255, (0, 0, 8, 4))  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned: show it turned clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    pixels = small.apply(tmp_path / "turned.png")[0, 0]
    assert pixels[:, 4:].min() == 1  # white to the right
    assert pixels[:, :4].max() == 0


def test_what_is_no_whole_image_is_refused(small, tmp_path):
    missing, text, cut = (tmp_path / name for name in ("no.jpg", "text.jpg", "cut.jpg"))
    text.write_text("no image")
    cut.write_bytes(PHOTOGRAPHS[0].read_bytes()[:9000])
    for path, message in (
        (missing, f"no image file at {missing}"),
        (text, f"{text} is no image that Pillow can read (JPEG, PNG, WebP, ...)"),
    ):
        with pytest.raises(ValueError, match=r".") as refusal:
            small.apply(path)
        assert str(refusal.value) == message
    with pytest.raises(ValueError, match=r"cut\.jpg is damaged or truncated: .*truncated"):
        small.apply(cut)
    bomb = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(bomb)
    with pytest.raises(
        ValueError, match=r"bomb\.png has more than 178 million pixels, which are not"
    ):
        small.apply(bomb)
