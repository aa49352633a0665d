"""A library for WebAssembly under node and in a page, against the same network here."""

import functools
import html
import json
import re
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import depthwise as dw
from depthwise.runtime.artifact import WEB
from depthwise.runtime.library import Library
from depthwise.weights.preprocessing import Preprocessing

SIDE = 32
LABELS = ("tabby, <b>tabby</b> & cat", "class", "hat", "bag", "shoe")
PREPROCESSING = Preprocessing(
    resize=37, crop=SIDE, interpolation="bicubic", mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)
)
CHROMIUM = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--virtual-time-budget=20000", "--dump-dom",
)  # fmt: skip


def find(program, package):
    """Return the path of a program; skips the test where it is not installed."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"NOT TESTED: no {program}, apt-get install {package}")
    return path


def tiny():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5),
    )  # fmt: skip
    net[4].weight.data *= 10  # so that the classes differ
    return net.eval()


class Sums(nn.Module):
    """Two inputs, two outputs."""

    def forward(self, x, y):
        return x + y, x * 2


def with_labels(library, preprocessing=PREPROCESSING):
    """Return the library with class names, and with what it takes images through."""
    update = {"labels": LABELS, "preprocessing": preprocessing.model_dump(mode="json")}
    artifact = library._artefact
    network = artifact.manifest.network.model_copy(update=update)
    manifest = artifact.manifest.model_copy(update={"network": network})
    return Library(type(artifact)(manifest, artifact.source, artifact.weights, artifact.shared))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The directory of a network of five classes, compiled for wasm32."""
    directory = tmp_path_factory.mktemp("web") / "out"
    with_labels(dw.compile(tiny(), (1, 3, SIDE, SIDE), target="wasm32")).save(directory)
    return directory


@pytest.fixture(scope="module")
def photo():
    """A picture with gradients and noise, wider than high."""
    y, x = np.mgrid[0:61, 0:97]
    noise = np.random.default_rng(0).integers(0, 60, (61, 97, 3))
    pixels = np.stack([2 * x, 3 * y, 195 - x - y], -1) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def node(directory, script, *arguments):
    """Return what a script prints that stands beside net.js."""
    done = subprocess.run(
        [find("node", "nodejs"), script, *arguments], cwd=directory, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def expected_classes(photo):
    with torch.no_grad():
        shares = tiny()(PREPROCESSING.apply(photo)).softmax(-1)[0].tolist()
    return sorted(zip(shares, LABELS, strict=True), reverse=True)


def test_node_runs_the_pattern(saved):
    printed = np.array(node(saved, "example.mjs").split(), np.float32)
    pattern = (np.arange(3 * SIDE * SIDE) % 2001 * 1916 % 2001).astype(np.float32)
    x = torch.from_numpy(pattern / np.float32(1000) - 1).reshape(1, 3, SIDE, SIDE)
    with torch.no_grad():
        np.testing.assert_allclose(printed, tiny()(x)[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(97, 61), (61, 98), (33, 34), (20, 31), (400, 300)])
def test_pictures_become_what_python_makes_of_them(saved, photo, interpolation, size, tmp_path):
    picture, chosen = photo.resize(size), PREPROCESSING.model_copy(
        update={"interpolation": interpolation}
    )  # fmt: skip
    (tmp_path / "rgba").write_bytes(picture.convert("RGBA").tobytes())
    (tmp_path / "prepare.mjs").write_text(f"""
        import {{ readFileSync, writeFileSync }} from "node:fs";
        const {{ load }} = await import({json.dumps((saved / "net.js").as_uri())});
        const network = await load();
        const image = {{ data: readFileSync("rgba"), width: {size[0]}, height: {size[1]} }};
        writeFileSync("tensor", network.prepare(image, {chosen.model_dump_json()}));
    """)
    node(tmp_path, "prepare.mjs")
    found = np.fromfile(tmp_path / "tensor", np.float32).reshape(3, SIDE, SIDE)
    difference = np.abs(found - chosen.apply(picture)[0].numpy())
    step = 1 / 255 / np.reshape(chosen.std, (3, 1, 1))  # Pillow's weights are whole numbers
    assert (difference <= 1.001 * step).all()
    assert (difference > 0.5 * step).mean() < 0.01


def test_node_names_a_picture(saved, photo, tmp_path):
    photo.save(tmp_path / "photo.ppm")
    lines = node(saved, "example.mjs", tmp_path / "photo.ppm").splitlines()
    found = [line.strip().split(" %  ") for line in lines]
    for (share, label), (expected, name) in zip(found, expected_classes(photo), strict=True):
        assert label == name
        assert abs(float(share) / 100 - expected) < 0.005


def test_raw_images_of_bytes(tmp_path, photo):
    preparation = dw.Preparation(PREPROCESSING.mean, PREPROCESSING.std, "uint8", "nhwc")
    library = dw.compile(tiny(), (1, 3, SIDE, SIDE), target="wasm32", preparation=preparation)
    rest = PREPROCESSING.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3})
    with_labels(library, rest).save(tmp_path / "out")
    photo.save(tmp_path / "photo.ppm")
    first = node(tmp_path / "out", "example.mjs", tmp_path / "photo.ppm").splitlines()[0]
    share, label = expected_classes(photo)[0]
    assert first.endswith(f" %  {label}")
    assert abs(float(first.split()[0]) / 100 - share) < 0.005


def test_several_tensors(tmp_path):
    dw.compile(Sums(), (1, 4), (1, 4), target="wasm32").save(tmp_path / "out")
    (tmp_path / "out" / "run.mjs").write_text("""
        import { load } from "./net.js";
        const network = await load();
        const [sum, twice] = network.run(Float32Array.of(1, 2, 3, 4), Float32Array.of(5, 6, 7, 8));
        console.log([...sum, ...twice].join(" "));
        for (const wrong of [[], [new Float32Array(4), new Float32Array(3)], [[1, 2, 3, 4], 5]]) {
          try { network.run(...wrong); } catch (error) { console.log(error.message); }
        }
    """)
    lines = node(tmp_path / "out", "run.mjs").splitlines()
    assert lines[0] == "6 8 10 12 2 4 6 8"
    assert lines[1] == "the network takes 2 inputs, found 0"
    assert "is Float32Array of 3: the network takes Float32Array of 4, 1 x 4" in lines[2]
    assert "is Array of 4: the network takes Float32Array of 4" in lines[3]


def test_a_page_names_a_picture(saved, photo, tmp_path):
    chromium = find("chromium", "chromium")
    photo.save(saved / "photo.png")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=saved)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = f"http://127.0.0.1:{server.server_port}/example.html?image=photo.png"
        done = subprocess.run(
            [chromium, *CHROMIUM, f"--user-data-dir={tmp_path / 'profile'}", page],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        server.shutdown()
    rows = re.findall(r"<li><span>(.*?)</span><span>(.*?) %</span>", done.stdout)
    for (label, share), (expected, name) in zip(rows, expected_classes(photo), strict=True):
        assert html.unescape(label) == name
        assert abs(float(share) / 100 - expected) < 0.005


def test_memory_is_as_small_as_what_lies_in_it(saved):
    lines = node(saved, "--input-type=module", "-e", """
        import { readFileSync } from "node:fs";
        const { instance } = await WebAssembly.instantiate(readFileSync("net.wasm"));
        console.log(instance.exports.memory.buffer.byteLength);
        const { load } = await import(`${process.cwd()}/net.js`);
        const network = await load();
        console.log(network.exports.memory.buffer.byteLength, network.top);
    """).split()  # fmt: skip
    at_first, grown, used = map(int, lines)
    assert at_first <= 2 * 65536  # stack and tables
    assert used <= grown < used + 65536


def test_a_library_for_the_web_has_its_loader_and_no_other_has(saved, tmp_path):
    assert {path.name for path in saved.iterdir()} >= set(WEB)
    dw.compile(tiny(), (1, 3, SIDE, SIDE)).save(tmp_path / "out")
    assert not {path.name for path in (tmp_path / "out").iterdir()} & set(WEB)
