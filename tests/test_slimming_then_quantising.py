"""The road of a trained network: slimmed, then computed in eight bits, at what loss of both."""

import pytest
import torch
from slimming_networks import block
from torch import nn

import depthwise as dw
from depthwise.training import Recipe, train
from depthwise.training.data.opening import open_dataset
from depthwise.training.judging import evaluate

MOST = 0.02  # of the images, more than which both together may not get wrong


@pytest.mark.slow
def test_both_losses_together_are_small(tmp_path):
    """Of real photographs of clothes that neither trained nor chose anything."""
    data = open_dataset("bundled")
    torch.manual_seed(0)
    net = nn.Sequential(
        *block(3, 16), nn.MaxPool2d(2), *block(16, 32), *block(32, 32), nn.MaxPool2d(2),
        *block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    run = train(net, data, Recipe(epochs=6), directory=tmp_path / "run")
    options = dw.SlimmingOptions(build=dw.CompileOptions("aarch64"), images=512)  # untimed
    side = run.record.preprocessing.crop
    slimmed = dw.slim(
        f"run:{tmp_path / 'run'}", (1, 3, side, side), "50%", data, options=options,
        directory=tmp_path / "slim",
    )  # fmt: skip
    assert slimmed.record.after.macs <= slimmed.record.before.macs / 2
    quantized = dw.quantize(f"slimmed:{tmp_path / 'slim'}", data=data)
    quantized.save(tmp_path / "int8")
    assert quantized.classes == data.classes
    accuracies = [
        evaluate(what, data, split="test").result.accuracy
        for what in (run, f"slimmed:{tmp_path / 'slim'}", f"quantized:{tmp_path / 'int8'}")
    ]
    assert accuracies[0] > 0.8  # it has learned something
    assert accuracies[0] - accuracies[2] <= MOST
    assert quantized.record.weight_bytes < 0.4 * slimmed.record.after.weight_bytes
