"""Weights to come: which lines convolutions ask for, and when."""

from dataclasses import replace

import pytest
import torch
from quantised_networks import quantised
from test_stream import graph_of
from torch import nn

from depthwise.compiler.constants import constants_of
from depthwise.compiler.lowering.algorithms import ConvWorkload
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.planning import make_plan
from depthwise.compiler.schedule.regions import Parts
from depthwise.compiler.schedule.weights_to_come import (
    ask_for_weights,
    asking_on,
    lines_of_tiles,
    tile_blocks,
)
from depthwise.compiler.work import LINE
from depthwise.hardware.core import Core
from depthwise.hardware.known_cores import CORES
from depthwise.runtime.target import AMX, find_target

V4 = find_target("x86-64-v4")
FAST, SLOW = CORES["zen5"], CORES["sapphirerapids"]
AHEAD = {core: asking_on(constants_of(V4, core)).ahead for core in (FAST, SLOW)}


@pytest.mark.parametrize(
    ("layer", "tile", "lines"),
    [
        (ConvWorkload(1, 14, 14, 196, 1, (1, 1), 16, 672, 1), (14, 2), 3),  # 14 * 2 * 16 / 128
        (
            ConvWorkload(1, 14, 14, 196, 1, (1, 1), 112, 672, 1),
            (14, 2),
            13,
        ),  # 4096 lines, 14 * 21 tiles
        (
            ConvWorkload(1, 14, 14, 14, 1, (1, 1), 112, 672, 1),
            (14, 2),
            13,
        ),  # as many tiles, row by row
        (ConvWorkload(2, 14, 14, 196, 1, (1, 1), 112, 672, 1), (14, 2), 6),  # two images
        (ConvWorkload(1, 112, 112, 112, 9, None, 3, 16, 1), (16, 1), 3),
        (
            ConvWorkload(1, 112, 112, 12544, 1, (1, 1), 16, 64, 1),
            (3, 2),
            0,
        ),  # more tiles than lines
    ],
)
def test_lines_before_each_tile(layer, tile, lines):
    asking = asking_on(constants_of(V4, FAST))
    assert lines_of_tiles(layer, layer.run, (*tile, 1), 16, asking) == lines


def asked(core: Core, threads: int = 1) -> list[Parts]:
    """Return the regions of a network whose weights, 4.5 MB, grow from layer to layer."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(a, b, 1) for a, b in ((64, 64), (64, 512), (512, 512), (512, 1024))]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Conv2d(1024, 256, 1))
    return list(make_plan(graph_of(net, 1, 64, 14, 14), V4, threads=threads, core=core).regions)


def convolutions(regions: list[Parts], thread: int = 0) -> list[KernelCall]:
    parts = [region[thread] for region in regions if len(region) > thread]
    return [step for part in parts for step in part if step.kernel == "f32_conv"]


def lines_of(step: KernelCall) -> range:
    """Return where the lines begin that a step asks for, counted as its loops are."""
    a, view = step.arguments, step.arguments["next"]
    if view is None:
        return range(0)
    assert a["prefetch_lines"]
    vectors = -(-a["outs"] // 16)
    tiles = a["rows"] * -(-a["width"] // a["tile_pixels"]) * -(-vectors // a["tile_vectors"])
    times = -(-a["channels"] // a["prefetch_steps"]) if a["prefetch_steps"] else 1
    count = tiles * times * a["prefetch_lines"]
    return range(view.offset, view.offset + LINE * count, LINE)


def own(step: KernelCall) -> tuple[int, int]:
    a = step.arguments
    return a["w"].offset, a["w"].offset + a["channels"] * -(-a["outs"] // 16) * 16


@pytest.mark.parametrize("threads", [1, 2])
def test_a_thread_asks_for_no_line_twice(threads):
    regions = asked(SLOW, threads)
    assert max(map(len, regions)) == threads
    for thread in range(threads):
        reached = 0
        for step in convolutions(regions, thread):
            lines = lines_of(step)
            if lines:
                assert lines[0] >= reached
                reached = lines[-1] + LINE


@pytest.mark.parametrize(("l2", "again"), [(2, True), (8, False)])
def test_the_next_image_asks_for_what_has_left_the_second_cache(l2, again):
    regions = asked(SLOW)
    core = replace(SLOW, caches=replace(SLOW.caches, l2=l2 * 2**20))
    constants = replace(constants_of(V4, SLOW), core=core)
    twice = convolutions(ask_for_weights([*regions, *regions], constants))
    first, second = twice[: len(twice) // 2], twice[len(twice) // 2 :]
    expected = [lines_of(step) for step in first] if again else [range(0)] * len(first)
    assert [lines_of(step) for step in second] == expected


def test_all_but_what_is_read_first_is_asked_for():
    """Every panel but a layer's first, and what comes after, as far as it may lie ahead."""
    steps = convolutions(asked(SLOW))
    first, *others, _ = steps
    assert lines_of(first)[0] == own(first)[1]
    for step in others:
        lines, (start, end) = lines_of(step), own(step)
        assert start < lines[0] <= start + 1.2 * AHEAD[SLOW]
        assert lines[-1] == pytest.approx(end + AHEAD[SLOW], abs=LINE * len(lines) / 8)
    assert others[-1].arguments["prefetch_steps"] < 512 / 8  # all along its loops


def test_a_lone_pixel_waits_for_its_weights():
    *_, last = convolutions(asked(SLOW))
    assert last.arguments["next"] is None
    assert last.arguments["near_steps"] == 0


def test_large_weights_come_near_before_their_turn():
    near = [step.arguments["near_steps"] for step in convolutions(asked(SLOW))]
    assert near == [0, 8, 8, 8, 0]


def test_elsewhere_the_next_layers_weights_are_asked_for_before_each_tile():
    steps = convolutions(asked(FAST))
    for step in steps[:-1]:
        a = step.arguments
        assert (a["near_steps"], a["prefetch_steps"]) == (0, 0)
        assert a["next"].offset == own(step)[1]
        assert len(lines_of(step)) * LINE <= AHEAD[FAST]
    assert steps[-1].arguments["next"] is None


def test_the_third_cache_of_these_cores_is_slow():
    by_target = {name: find_target(name) for name in ("x86-64-v4", "aarch64")}
    slow = {
        name
        for name, core in CORES.items()
        for target in by_target.values()
        if target.architecture == core.architecture and constants_of(target, core).slow
    }
    assert slow == {"sapphirerapids", "icelake-server", "skylake-server"}


@pytest.mark.parametrize(
    ("images", "rows", "width", "pitch", "outs", "blocks"),
    [
        (1, 7, 7, 7, 160, 2 * 5),  # 49 pixels: four tiles of 16, of which the last begins earlier
        (1, 14, 14, 0, 96, 14 * 3),  # a tile a row
        (2, 1, 40, 0, 33, 2 * (1 + 1) * 2),  # a pair of tiles and one more
    ],
)
def test_blocks_of_tiles(images, rows, width, pitch, outs, blocks):
    sizes = {"images": images, "rows": rows, "width": width, "pitch": pitch}
    assert tile_blocks({**sizes, "outs": outs, "panel": 32}) == blocks


def test_blocks_of_tiles_ask_for_what_follows():
    torch.manual_seed(0)
    sizes = ((64, 64), (64, 512), (512, 512), (512, 1024), (1024, 1024))
    net = nn.Sequential(*(nn.Conv2d(a, b, 1) for a, b in sizes))
    graph = rewrite(quantised(graph_of(net, 1, 64, 14, 14)))
    regions = make_plan(graph, AMX, core=SLOW).regions
    steps = [step for (part,) in regions for step in part if step.kernel == "u8_quantized_conv"]
    reached = 0
    for step in steps:
        a, view = step.arguments, step.arguments["next"]
        assert a["tiles"]
        own = a["channels"] * (32 if a["weights_outer"] else a["outs"])  # read at once
        assert view.offset >= max(reached, a["w"].offset + own)
        reached = view.offset + 64 * a["prefetch_lines"] * tile_blocks(a)
    assert reached > steps[-1].arguments["w"].offset
