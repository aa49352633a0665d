"""Networks of others through ONNX: those that PyTorch exports, and PaddlePaddle's for text.

The models of PP-OCRv4 are those of the package rapidocr-onnxruntime, which needs nothing else here:
pip install --no-deps rapidocr-onnxruntime
"""

import contextlib
import importlib.util
import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

import depthwise as dw
from depthwise.graph import interpret
from depthwise.graph.frontends.onnx import read_onnx

ENOUGH = 1e-4  # of the largest output

OURS = (
    "alexnet_torchvision", "bn_inception", "ghostnet", "googlenet", "inception_v3", "mobilenet_v1",
    "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "resnet18", "resnet56_cifar",
    "se_resnet50", "vgg16_cifar", "xception",
)  # fmt: skip
TORCHVISION = (
    "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "mnasnet0_5", "mobilenet_v2",
    "mobilenet_v3_small", "regnet_x_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1",
    "swin_t",
)  # fmt: skip
TIMM = (
    "convnext_atto", "dla46_c", "edgenext_xx_small", "efficientnet_lite0", "fastvit_t8",
    "gernet_s", "ghostnetv2_100", "hardcorenas_a", "lcnet_050", "levit_128s", "mnasnet_small",
    "mobileone_s0", "mobilevit_xxs", "mobilenetv4_conv_small", "regnety_002", "repvgg_a0",
    "resnet10t", "rexnet_100", "tf_efficientnet_b0", "tinynet_e", "vit_tiny_patch16_224",
    "xcit_nano_12_p16_224",
)  # fmt: skip
FIXED_SIZE = {
    "alexnet_torchvision": 224,
    "levit_128s": 224,
    "vit_tiny_patch16_224": 224,
    "inception_v3": 96,
}
ALL = [*(f"ours:{n}" for n in OURS), *(f"torchvision:{n}" for n in TORCHVISION),
       *(f"timm:{n}" for n in TIMM)]  # fmt: skip
QUICK = [("ours:mobilenet_v3_small", False), ("torchvision:shufflenet_v2_x0_5", False),
         ("timm:tinynet_e", False), ("torchvision:squeezenet1_1", True)]  # fmt: skip


def create(name):
    source, name = name.split(":")
    torch.manual_seed(0)
    if source == "ours":
        return dw.create_model(name).eval()
    if source == "timm":
        timm = pytest.importorskip("timm")
        return timm.create_model(name).eval()
    torchvision = pytest.importorskip("torchvision")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how GoogLeNet's weights are drawn
        return torchvision.models.get_model(name, weights=None).eval()


def exported(net, x, path, dynamo):
    if dynamo:
        pytest.importorskip("onnxscript")
    silent = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), silent[0], silent[1]:
        warnings.simplefilter("ignore")  # of an exporter that is there to be read
        torch.onnx.export(net, (x,), path, dynamo=dynamo, **({"verbose": False} if dynamo else {}))
    return path


def check_round_trip(name, dynamo, folder):
    """Export a network, read it back, and compare what it computes."""
    net = create(name)
    size = FIXED_SIZE.get(name.split(":")[1], 64)
    x = torch.randn(1, 3, size, size)
    with torch.no_grad():
        expected = net(x).numpy()
    graph = read_onnx(exported(net, x, folder / "net.onnx", dynamo))
    found = interpret(graph, x.numpy())[graph.outputs[0].value]
    assert np.abs(found - expected).max() <= ENOUGH * np.abs(expected).max()
    paths = {path for path, _ in net.named_modules()}
    found_paths = {node.path for node in graph}  # of modules; calls after the first are numbered
    assert {path if path in paths else re.sub(r"_\d+$", "", path) for path in found_paths} <= paths


@pytest.mark.parametrize(("name", "dynamo"), QUICK)
def test_networks_that_torch_exports_are_read_back(name, dynamo, tmp_path):
    check_round_trip(name, dynamo, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_all_networks_are_read_back(name, dynamo, tmp_path):
    check_round_trip(name, dynamo, tmp_path)


# ------------------------------------------------------------------------------------- PP-OCRv4

OCR = {
    "ch_PP-OCRv4_det_infer": [(1, 3, 64, 160), (2, 3, 96, 128)],
    "ch_PP-OCRv4_rec_infer": [(1, 3, 48, 96), (2, 3, 48, 64)],
    "ch_ppocr_mobile_v2.0_cls_infer": [(1, 3, 48, 192), (2, 3, 48, 100)],
}


def ocr_model(name):
    found = importlib.util.find_spec("rapidocr_onnxruntime")
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{name} IS NOT TESTED: pip install --no-deps rapidocr-onnxruntime")
    return Path(found.submodule_search_locations[0], "models", f"{name}.onnx")


def page(shape):
    """Return images of lines of text: where there is none the detector gives zeros alone."""
    count, _, height, width = shape
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    for top in range(4, height, 32):
        pen.text((6, top), "depthwise 0123", fill="black", font=ImageFont.load_default(size=20))
    x = np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1
    return np.stack([x * (1 - 0.1 * i) for i in range(count)])


def in_onnxruntime(path, x):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.mark.parametrize(("name", "shape"), [(n, s) for n, shapes in OCR.items() for s in shapes])
def test_models_of_paddleocr(name, shape):
    path = ocr_model(name)
    graph, x = read_onnx(path, [shape]), page(shape)
    expected = in_onnxruntime(path, x)
    found = interpret(graph, x)[graph.outputs[0].value]
    assert np.abs(found - expected).max() <= ENOUGH * np.abs(expected).max()
    assert np.abs(expected).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shape"), [(n, s) for n, shapes in OCR.items() for s in shapes])
def test_models_of_paddleocr_are_compiled(name, shape):
    path, x = ocr_model(name), page(shape)
    library = dw.compile(path, shape, samples=[x])
    expected = in_onnxruntime(path, x)
    assert np.abs(library(x) - expected).max() <= ENOUGH * np.abs(expected).max()
    assert library.manifest.verification.reference == "ONNX Runtime"
