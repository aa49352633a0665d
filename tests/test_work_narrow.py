"""What calls of kernels of bytes and of 16 bits are counted with."""

import pytest
from torch import nn

from depthwise.compiler.planning import make_plan
from depthwise.graph import capture
from depthwise.latency.precisions import read_narrow, rewritten_in
from depthwise.runtime.target import find_target


def counted(net, shape, precision, target, kernel):
    plan = make_plan(rewritten_in(capture(net.eval(), shape), precision), find_target(target))
    step = next(step for step in plan.steps if step.kernel == kernel)
    return step, step.row.count(step.arguments, plan.target.lanes)


def test_tiles_are_counted_by_their_products_and_loads():
    net = nn.Sequential(nn.ReLU(), nn.Conv2d(96, 48, 1))
    for precision, steps, kernel in (
        ("int8", 2, "u8_quantized_conv"), ("bfloat16", 3, "bf16_tile_conv"),
    ):  # fmt: skip
        step, found = counted(net, (1, 96, 8, 10), precision, "x86-64-amx", kernel)
        # 80 pixels are 5 tiles, 48 outputs 3: in 3 blocks of pixels by 2 of outputs
        assert found["tile products"] == 5 * 3 * steps
        assert found["tile loads"] == steps * (5 * 2 + 3 * 3)
        assert found["blocks"] == 6
        assert found["finished"] == 80 * 2
        assert found["added"] == 0
        again, between = step.row.again(step.arguments, 16)
        assert again == 2 * between  # the first of three blocks reads them for the first time
        assert between % 64 == 0
        assert not step.row.streams(step.arguments)


def test_a_residual_is_counted():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(32, 32, 1)

        def forward(self, x):
            x = x.relu()
            return x + self.conv(x)

    net = nn.Sequential(Block(), nn.Conv2d(32, 8, 1))  # the sum stays in bytes for it
    _, found = counted(net, (1, 32, 8, 8), "int8", "x86-64-amx", "u8_quantized_conv")
    assert found["added"] == found["finished"] == 64


def test_vectors_of_bytes_are_counted_by_fours():
    net = nn.Sequential(nn.ReLU(), nn.Conv2d(24, 16, 1))
    step, found = counted(net, (1, 24, 6, 6), "int8", "x86-64-v3", "u8_quantized_conv")
    assert step.arguments["tile_pixels"] == 6
    assert found == {"steps": 6 * 6 * 12.0, "tiles": 6.0, "stores": 72.0}


def test_a_layer_without_room_for_halves_has_small_tiles():
    net = nn.Sequential(nn.ReLU(), nn.Conv2d(512, 16, 3))
    step, _ = counted(net, (1, 512, 10, 10), "int8", "x86-64-v3", "u8_quantized_conv")
    assert step.arguments["tile_pixels"] == 4


def test_classifiers_read_their_weights_once():
    net = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 8))
    plan = make_plan(rewritten_in(capture(net.eval(), (1, 64)), "int8"), find_target("x86-64-amx"))
    steps = [step for step in plan.steps if step.kernel == "u8_quantized_conv"]
    assert len(steps) == 2
    assert all(step.row.streams(step.arguments) for step in steps)


@pytest.mark.parametrize(
    ("net", "columns", "products"),
    [
        # 8 rows by twos, 8 columns in a run; the rows under a tile are one group of four
        (nn.Conv2d(64, 64, 3, 1, 1, groups=64), 4 * 10, 4 * 8 * 2 * 3),
        # 16 channels of four rows share a vector: one tile of the plane
        (nn.Conv2d(16, 16, 3, 1, 1, groups=16), 10, 8 * 2 * 3),
        (nn.Conv2d(64, 64, 3, 2, 1, groups=64), 4 * (4 * 2 + 1), 4 * 4 * 3),
    ],
)
def test_columns_that_are_woven_are_counted(net, columns, products):
    shape = (1, net.in_channels, 8, 8)
    kernel = "u8_quantized_depthwise"
    net = nn.Sequential(nn.ReLU(), net, nn.Conv2d(net.in_channels, 8, 1))
    _, found = counted(net, shape, "int8", "x86-64-amx", kernel)
    assert (found["columns"], found["products"]) == (columns, products)


def test_pairs_are_vectors_of_twice_as_many_channels():
    net = nn.Sequential(nn.ReLU(), nn.Conv2d(64, 64, 3, 1, 1, groups=64))
    for precision, target, kernel in (
        ("bfloat16", "x86-64-amx", "bf16_pair_depthwise"),
        ("float16", "x86-64-avx512-fp16", "f16_pair_depthwise"),
    ):
        _, found = counted(net, (1, 64, 7, 7), precision, target, kernel)
        assert found["products"] == 2 * 49 * 9
        assert found["loads"] == 2 * (3 * 4 + 3) * 9  # three tiles of two rows, one of one


def test_names_of_narrow_types_are_read():
    assert read_narrow("int8, bfloat16,float32,int8") == ("int8", "bfloat16")
    for names, named in (("int4", "int4"), ("", "")):
        with pytest.raises(ValueError, match=f"--precision {names}: '{named}' is none; name some"):
            read_narrow(names)
