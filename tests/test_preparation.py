"""Raw images: normalised inside of the library, by its first convolution where there is one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from kernel_harness import VECTORS, at_page_end, call, check_gcc, compile_kernel, pointer
from PIL import Image
from test_examples import build_example, printed
from torch import nn
from torchvision.transforms import functional

import depthwise as dw
from depthwise.compiler import pipeline
from depthwise.compiler.fused_ops import Images
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.planning import make_plan
from depthwise.compiler.preparation import Preparation
from depthwise.errors import Mismatch
from depthwise.graph import capture, interpret
from depthwise.graph.ops import Padding
from depthwise.runtime.library import Code, align_copy, aligned_bytes
from depthwise.runtime.target import find_target
from depthwise.weights import PHOTOGRAPHS

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KINDS = [(dtype, layout) for dtype in ("float32", "uint8") for layout in ("nchw", "nhwc")]
TOLERANCE = 1e-4  # of the largest output

every_kind = pytest.mark.parametrize(("dtype", "layout"), KINDS)


def draw_images(dtype, layout, shape):
    """Return raw images, and what PyTorch's own arithmetic makes of them."""
    random = torch.Generator().manual_seed(7)
    n, c, h, w = shape
    raw_shape = (n, h, w, c) if layout == "nhwc" else shape
    if dtype == "uint8":
        raw = torch.randint(0, 256, raw_shape, generator=random, dtype=torch.uint8)
        x = raw.float() / 255
    else:
        raw = x = torch.rand(raw_shape, generator=random)
    planes = x.permute(0, 3, 1, 2) if layout == "nhwc" else x
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (MEAN[:c], STD[:c]))
    return raw, ((planes - mean) / std).contiguous()


def agree(net, shape, dtype, layout):
    """Hold a library that prepares its images to PyTorch with prepared ones."""
    preparation = Preparation(MEAN[: shape[1]], STD[: shape[1]], dtype, layout)
    library = dw.compile(net, shape, preparation=preparation)
    raw, prepared = draw_images(dtype, layout, shape)
    with torch.no_grad():
        expected = net.eval()(prepared)
    found = library(raw)
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()
    return library


class Twice(nn.Module):
    """A convolution that reads its input once more to add it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x) + x


class Branches(nn.Module):
    """A convolution and a pooling side by side."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return torch.cat([self.conv(x), nn.functional.max_pool2d(x, 3, 1, 1)], 1)


class Returned(nn.Module):
    """A network that returns its input beside what it makes of it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x), x


# name: (network, images, whether its first convolution prepares them)
NETS = {
    "padded": (nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()), (1, 3, 7, 9), True),
    "stride 2": (nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(),
                               nn.Conv2d(8, 5, 3, padding=1)), (2, 3, 9, 13), True),
    "wide kernel": (nn.Conv2d(3, 17, 7, 2, 3, bias=False), (2, 3, 11, 8), True),
    "without padding": (nn.Conv2d(3, 8, 3), (2, 3, 8, 7), True),
    "one side": (nn.Sequential(nn.ZeroPad2d((0, 2, 1, 0)), nn.Conv2d(3, 4, 3)), (1, 3, 5, 6), True),
    "dilated": (nn.Conv2d(3, 6, 3, padding=2, dilation=2), (1, 3, 8, 9), True),
    "depthwise": (nn.Conv2d(3, 3, 3, padding=1, groups=3), (2, 3, 6, 5), True),
    "grey": (nn.Conv2d(1, 6, 5, padding=2), (2, 1, 9, 10), True),
    "grey pixel": (nn.Conv2d(1, 6, 1), (2, 1, 4, 5), True),
    "pixel": (nn.Conv2d(3, 20, 1), (2, 3, 5, 7), True),
    "max pool": (nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Conv2d(3, 4, 3, padding=1)),
                 (2, 3, 9, 7), False),
    "average pool": (nn.AvgPool2d(3, 2, 1), (1, 3, 9, 7), False),
    "residual": (Twice(), (2, 3, 6, 7), False),
    "branches": (Branches(), (2, 3, 6, 7), False),
    "transposed": (nn.ConvTranspose2d(3, 4, 4, 2, 1), (1, 3, 5, 6), False),
    "linear": (nn.Sequential(nn.Flatten(), nn.Linear(60, 4)), (2, 3, 4, 5), False),
}  # fmt: skip


@every_kind
@pytest.mark.parametrize("name", NETS)
def test_libraries_prepare_images(name, dtype, layout):
    net, shape, folded = NETS[name]
    torch.manual_seed(2)
    for parameter in net.parameters():
        parameter.data.normal_(0, 0.5)
    library = agree(net, shape, dtype, layout)
    assert ("f32_batch_norm" not in library._artefact.source) == folded
    assert library.manifest.verification is not None
    assert library.manifest.verification.error <= TOLERANCE
    assert library.manifest.network.inputs[0].dtype == dtype


@every_kind
def test_an_input_that_is_returned_is_prepared(dtype, layout):
    net, shape = Returned(), (2, 3, 6, 7)
    raw, prepared = draw_images(dtype, layout, shape)
    found = dw.compile(net, shape, preparation=Preparation(MEAN, STD, dtype, layout))(raw)
    assert torch.allclose(found[1], prepared, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(found[0], net(prepared)[0], atol=1e-5)


@every_kind
def test_the_interpreter_says_the_same(dtype, layout):
    net, shape, _ = NETS["stride 2"]
    raw, prepared = draw_images(dtype, layout, shape)
    graph = rewrite(capture(net, shape), Preparation(MEAN, STD, dtype, layout))
    found = interpret(graph, raw.numpy())[graph.outputs[0].value]
    with torch.no_grad():
        np.testing.assert_allclose(found, net.eval()(prepared), rtol=0, atol=1e-5)


def test_the_border_is_the_mean_of_the_raw_images():
    net, shape, _ = NETS["one side"]
    graph = rewrite(capture(net, shape), Preparation(MEAN, STD, "uint8"))
    op = graph.nodes[0].op
    assert op == Images("nchw", Padding(1, 0, 0, 2), tuple(255 * mean for mean in MEAN))
    black = interpret(graph, np.zeros(shape, np.uint8))[graph.nodes[0].name]
    assert black.shape == (1, 3, 6, 8)
    np.testing.assert_allclose(black[0, :, 0, 0], np.multiply(MEAN, 255), rtol=1e-6)
    np.testing.assert_allclose(black[0, :, 3, 7], np.multiply(MEAN, 255), rtol=1e-6)
    assert not black[0, :, 1:, :6].any()


def test_interleaved_floats_are_read_where_they_are():
    net, shape, _ = NETS["without padding"]
    graph = rewrite(capture(net, shape), Preparation(MEAN, STD, layout="nhwc"))
    kernels = [step.kernel for step in make_plan(graph, find_target("native")).steps]
    assert kernels == ["f32_conv", "f32_copy"]  # the latter of the output


@every_kind
def test_the_whole_border_is_written(dtype, layout):
    """The arena may hold anything before a run, NaN here."""
    net, shape, _ = NETS["stride 2"]
    library = dw.compile(net, shape, preparation=Preparation(MEAN, STD, dtype, layout))
    raw, _ = draw_images(dtype, layout, shape)
    code, weights = Code(library._artefact.shared), align_copy(library._artefact.weights)
    arena = aligned_bytes(code.arena_bytes)
    arena[:] = 0xFF
    y = np.empty(library.manifest.network.outputs[0].shape, np.float32)
    code.run(weights, [raw.numpy()], [y], arena)
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(y, library(raw).numpy())


def test_other_networks_are_planned_as_before():
    net, shape, _ = NETS["stride 2"]
    assert not any(isinstance(node.op, Images) for node in rewrite(capture(net, shape)))


# --------------------------------------------------------------------------------- photographs


@pytest.fixture(scope="module")
def pretrained():
    return dw.create_model("mobilenet_v2", weights="imagenet").eval()


@every_kind
def test_photographs_get_the_same_label_and_probability(pretrained, dtype, layout):
    record = pretrained.pretrained.preprocessing
    with Image.open(PHOTOGRAPHS[0]) as image:
        pixels = functional.center_crop(functional.resize(image.convert("RGB"), 256), 224)
    raw = np.array(pixels)[None]
    raw = raw if layout == "nhwc" else raw.transpose(0, 3, 1, 2)
    raw = raw if dtype == "uint8" else raw.astype(np.float32) / 255
    library = dw.compile(
        pretrained, (1, 3, 224, 224), samples=[raw],
        preparation=Preparation(record.mean, record.std, dtype, layout),
    )  # fmt: skip
    x = functional.normalize(functional.to_tensor(pixels), list(record.mean), list(record.std))
    with torch.no_grad():
        expected = pretrained(x[None]).softmax(1)[0].numpy()
    found = torch.from_numpy(library(np.ascontiguousarray(raw))).softmax(1)[0].numpy()
    assert found.argmax() == expected.argmax()
    assert np.abs(found - expected).max() <= 1e-4


def test_the_manifest_says_what_is_left_to_do(pretrained):
    record = pretrained.pretrained.preprocessing
    library = dw.compile(pretrained, (1, 3, 64, 64), preparation=Preparation(MEAN, STD))
    network = library.manifest.network
    assert network.preparation is not None
    assert network.preparation.model_dump() == {
        "mean": MEAN, "std": STD, "dtype": "float32", "layout": "nchw",
    }  # fmt: skip
    left = type(record).model_validate(network.preprocessing).model_copy(update={"crop": 64})
    x = left.apply(PHOTOGRAPHS[0])
    with torch.no_grad():
        expected = pretrained(record.model_copy(update={"crop": 64}).apply(PHOTOGRAPHS[0]))
    assert (library(x) - expected).abs().max() <= TOLERANCE * expected.abs().max()


# ------------------------------------------------------------------------------ saved libraries


@pytest.mark.parametrize("language", ["c", "c++"])
@every_kind
def test_the_examples_take_raw_images(tmp_path, dtype, layout, language):
    net, shape, _ = NETS["stride 2"]
    library = dw.compile(net, shape, preparation=Preparation(MEAN, STD, dtype, layout))
    library.save(tmp_path / "out")
    program = build_example(tmp_path / "out", "zig", language)
    raw, _ = draw_images(dtype, layout, shape)
    (tmp_path / "input").write_bytes(raw.numpy().tobytes())
    found = printed(program, tmp_path / "out/net.weights", tmp_path / "input")
    again = dw.load(tmp_path / "out")(raw.numpy()).reshape(-1)
    np.testing.assert_allclose(found, again, rtol=0, atol=1e-5)
    assert printed(program, tmp_path / "out/net.weights").shape == again.shape


# -------------------------------------------------------------------------------------- kernel

# images, channels, rows, width; border around them
BYTES = [
    (1, 1, 1, 1, 0), (2, 3, 4, 5, 0), (2, 3, 4, 5, 1), (1, 3, 2, 16, 2), (1, 3, 2, 17, 0),
    (2, 1, 3, 15, 1), (1, 4, 3, 32, 0), (1, 7, 3, 9, 1),
]  # fmt: skip


def convert_bytes(case, layout, vector, naive):
    images, channels, rows, width, border = case
    shape = (images, channels, rows, width)
    stored = channels + 1 if layout == "with alpha" else channels  # one that is passed over
    raw_shape = shape if layout == "nchw" else (images, rows, width, stored)
    raw = np.random.default_rng(1).integers(0, 256, raw_shape, np.uint8)
    x = raw if layout == "nchw" else raw.transpose(0, 3, 1, 2)[:, :channels]
    y = np.full((images, rows + 2 * border, width + 2 * border, channels), np.nan, np.float32)
    y = at_page_end(y)
    n, r, p, _ = (stride // 4 for stride in y.strides)
    run = call(
        "u8_to_f32", "x", "y", images=images, channels=channels, rows=rows, width=width,
        x=(x.strides[0], *x.strides[2:]), x_channel=x.strides[1], y=(n, r, p),
    )  # fmt: skip
    library = compile_kernel(text_of(run), vector=vector, naive=naive)
    library.run(pointer(at_page_end(raw)), pointer(y, border * (r + p)))
    return x, y


def text_of(run):
    return (
        '#include <stddef.h>\n#include "vector.h"\n#include "images.h"\n'
        "void run(const unsigned char *x, float *y);\n"
        f"void run(const unsigned char *x, float *y) {{ {run}; }}\n"
    )


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("layout", ["nchw", "nhwc", "with alpha"])
@pytest.mark.parametrize("case", BYTES, ids=str)
def test_bytes_become_floats(case, layout, vector):
    border = case[-1]
    for naive in (False, True):
        x, y = convert_bytes(case, layout, vector, naive)
        inside = np.zeros(y.shape, bool)
        inside[:, border : y.shape[1] - border, border : y.shape[2] - border] = True
        np.testing.assert_array_equal(y[inside].reshape(x.transpose(0, 2, 3, 1).shape),
                                      x.transpose(0, 2, 3, 1))  # fmt: skip
        assert np.isnan(y[~inside]).all()


@pytest.mark.parametrize("vector", VECTORS)
def test_bytes_pass_gccs_warnings(vector):
    run = call(
        "u8_to_f32", "x", "y", images=2, channels=3, rows=5, width=19,
        x=(285, 57, 3), x_channel=1, y=(399, 57, 3),
    )  # fmt: skip
    check_gcc(text_of(run), vector=vector)


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0.5,), (0.5, 0.5)), "1 means and 2 stds: give one of each a channel"),
        (((), ()), "0 means and 0 stds"),
        (((0.5,), (0.0,)), r"std=\(0.0,\): each is divided by, and must be finite and above 0"),
        (((0.5,), (-1.0,)), "above 0"),
        (((0.5,), (float("nan"),)), "above 0"),
        (((float("inf"),), (1.0,)), "means are finite numbers"),
        (((0.5,), (0.5,), "float16"), "dtype='float16': take float32 or uint8"),
        (((0.5,), (0.5,), "uint8", "chw"), "layout='chw': take nchw or nhwc"),
    ],
)
def test_preparations_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Preparation(*arguments)


class Sum(nn.Module):
    def forward(self, x, y):
        return x + y


@pytest.mark.parametrize(
    ("net", "shapes", "found"),
    [
        (nn.Conv2d(4, 2, 1), [(1, 4, 5, 5)], "1x4x5x5"),
        (nn.Linear(3, 2), [(1, 3)], "1x3"),
        (Sum(), [(1, 3, 5, 5), (1, 3, 5, 5)], "1x3x5x5, 1x3x5x5"),
    ],
)
def test_networks_that_take_no_such_images_are_refused(net, shapes, found):
    message = f"with 3 means and stds: the network's inputs are {found}, where it takes a single"
    with pytest.raises(ValueError, match=message):
        dw.compile(net, *shapes, preparation=Preparation(MEAN, STD))


def test_images_that_do_not_fit_are_refused():
    net, shape, _ = NETS["pixel"]
    preparation = Preparation(MEAN, STD, "uint8", "nhwc")
    library = dw.compile(net, shape, preparation=preparation)
    with pytest.raises(ValueError, match="is float32: the library takes uint8, convert it"):
        library(np.zeros((2, 5, 7, 3), np.float32))
    with pytest.raises(ValueError, match=r"has shape \(2, 3, 5, 7\): the library takes \(2, 5, 7"):
        library(np.zeros(shape, np.uint8))
    floats = np.zeros((2, 5, 7, 3), np.float32)
    with pytest.raises(ValueError, match="sample 0 is float32: the library takes uint8"):
        dw.compile(net, shape, preparation=preparation, samples=[floats])


def test_a_wrong_border_does_not_pass(monkeypatch):
    """The images that verification draws tell a border of zeros from one of the mean."""
    net, shape, _ = NETS["padded"]
    fold = pipeline.fold_input

    def fold_with_zeros(graph, preparation):
        images, *others = (folded := fold(graph, preparation)).nodes
        black = replace(images, op=replace(images.op, border=(0.0, 0.0, 0.0)))
        return replace(folded, nodes=(black, *others))

    monkeypatch.setattr(pipeline, "fold_input", fold_with_zeros)
    with pytest.raises(Mismatch, match="random input 0: the library's outputs differ"):
        dw.compile(net, shape, preparation=Preparation(MEAN, STD))
