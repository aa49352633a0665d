"""A small network and a request with two small images, as `depthwise ship` makes them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from depthwise.bench import record
from depthwise.compiler.options import CompileOptions
from depthwise.hardware import calibration, passes
from depthwise.hardware.load import Load
from depthwise.shipping import CurrentNetwork, Request
from depthwise.shipping.request import find_images
from depthwise.shipping.stages import counting
from depthwise.sources.source import torch_source


def tiny():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    return nn.Sequential(*layers, *head).eval()


def paint(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("b.png", "a.jpg"):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def make_network(net=None, **known):
    return CurrentNetwork(torch_source(net or tiny(), [(1, 3, 32, 32)]), **known)


def make_request(base, **changes):
    images = base / "images"
    found, left_out = find_images(images if images.is_dir() else paint(images))
    made = Request(
        "tiny", CompileOptions(), base / "out", "depthwise ship", images=found, left_out=left_out,
        rounds=2,
    )  # fmt: skip
    return replace(made, **changes)


@pytest.fixture(scope="module", autouse=True)
def measured_elsewhere(tmp_path_factory):
    """Keep what is measured while tests run away from the cache, and measure it once.

    Whatever else runs, nothing counts as disturbed: tests that ask for that say it themselves.
    """
    path = tmp_path_factory.mktemp("machine") / "this.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "machine_path", lambda: path)
        patch.setattr(passes, "ROUNDS", 1)
        patch.setattr(calibration, "system_caches", lambda: (32768, 2**20))
        patch.setattr(Load, "disturbed", "")
        patch.setattr(record, "UNEVEN", float("inf"))
        patch.setattr(counting, "BASELINE", "resnet56_cifar")  # ResNet-50 takes long to compile
        yield
