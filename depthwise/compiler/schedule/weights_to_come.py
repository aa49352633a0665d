"""Weights to come: the cache lines of them that each convolution asks for while it computes.

Weights lie in the order in which layers read them: what is read next lies behind what is read now.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from depthwise.compiler.constants import Constants
from depthwise.compiler.lowering.algorithms import ConvWorkload
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.packing import Tile, round_up
from depthwise.compiler.lowering.views import TensorView
from depthwise.compiler.schedule.threads import Parts
from depthwise.compiler.work import LINE, conv_runs
from depthwise.graph.dtypes import FLOAT32

BUSY = 8  # pixels that meet each weight: with fewer a layer waits for its own
MOST_LINES = 4  # that are asked for at once: they take the places of other lines on their way

# Of the tiles of AMX: what one holds, and the cycles that a product of two, the end of a block and
# a line from the third cache take.
TILE_PIXELS, TILE_STEP, PRODUCTS_OF_BLOCK = 16, 64, 4
TILE_CYCLES, EPILOGUE_CYCLES, LINE_CYCLES = 16, 120, 16
LINE_BYTES = LINE * FLOAT32.bytes


@dataclass(frozen=True)
class Asking:
    """How convolutions of a core ask for weights.

    Attributes:
        own: Whether for their own as well, one line after the other while they compute; else for
            those of the next layers alone, before each tile.
        per_line: The least multiply-adds of vectors for a line.
        ahead: The most floats behind a layer's own weights, for these push other data out.
        near: Steps before its turn at which a weight comes from the second cache into the first;
            0 where the core sees to that.
    """

    own: bool
    per_line: int
    ahead: int
    near: int


# MobileNetV3-Large gains 1.7 % on a Zen 5 with a line for each 32 multiply-adds, 2.4 with 64, 3.0
# with 128. Its cores bring a layer's own weights by themselves, and lose 2 to 6 % where these are
# asked for.
NEXT_PER_LINE = 128

# Where the third cache is slow, as that of Intel's servers, 1024 -> 1024 at 7x7 goes from 53 % of
# the multiply-add peak to 93. Lines that are asked for one by one cost nothing, up to 18 GB/s; 64
# at once take a third of the time more.
OWN_PER_LINE, NEAR_STEPS = 24, 8


def asking_on(constants: Constants) -> Asking:
    """Return how convolutions ask for weights on a core."""
    ahead = constants.ahead // FLOAT32.bytes
    if constants.slow:
        return Asking(True, OWN_PER_LINE, ahead, NEAR_STEPS)
    return Asking(False, NEXT_PER_LINE, ahead, 0)


def ask_for_weights(regions: Sequence[Parts], constants: Constants) -> list[Parts]:
    """Return the regions with the weights to come that each of their convolutions asks for.

    What one thread asks for is in its own cache: each knows up to where it has asked. What it read
    so many weights ago that these fill the cache is asked for again, by the next image of a batch.
    """
    reached = [0] * max(map(len, regions), default=0)
    return [
        tuple(
            tuple(_with_requests(part, thread, reached, constants))
            for thread, part in enumerate(region)
        )
        for region in regions
    ]


def _with_requests(
    part: Sequence[KernelCall], thread: int, reached: list[int], constants: Constants
) -> Iterator[KernelCall]:
    asking, lanes = asking_on(constants), constants.lanes
    for step in part:
        layer, a = step.layer, step.arguments
        if step.kernel == "u8_quantized_conv" and a["tiles"] and asking.own:
            yield _asked_by_tiles(step, thread, reached, constants)
            continue
        if step.kernel != "f32_conv" or layer is None or layer.pixels < BUSY:
            yield step
            continue
        weights = OwnWeights.of(step, lanes)
        if not asking.own:
            tile = (a["tile_pixels"], a["tile_vectors"], a["tile_depth"])
            run = layer.rows * layer.width if a["over_rows"] else layer.run
            lines = lines_of_tiles(layer, run, tile, lanes, asking)
            yield _asked(step, LineRequest(weights.end, lines), near=0)
            continue
        since = reached[thread] - asking.ahead - weights.end
        if FLOAT32.bytes * since > constants.core.caches.l2:  # the next image's turn
            reached[thread] = weights.start
        first = max(reached[thread], weights.next)
        request = even_request(step, first, weights.end + asking.ahead, lanes, asking)
        reached[thread] = max(weights.end, first + request.count * LINE)
        small = FLOAT32.bytes * (weights.end - weights.start) < constants.near
        yield _asked(step, request, 0 if small else asking.near)


@dataclass(frozen=True)
class OwnWeights:
    """Where the weights of a call start and end, and where those lie that it reads after its first.

    In floats. Panel by panel all others come later; else it reads all of them at once.
    """

    start: int
    end: int
    next: int

    @classmethod
    def of(cls, step: KernelCall, lanes: int) -> "OwnWeights":
        """Return those of a convolution."""
        a, wide = step.arguments, lanes // step.arguments["tile_depth"]
        floats = a["w_taps"] * a["channels"]  # of an output channel
        start = a["w"].offset
        end = start + a["groups"] * round_up(a["outs"], wide) * floats
        panel = a["tile_vectors"] * wide * floats
        return cls(start, end, min(start + panel, end) if a["weights_outer"] else end)


@dataclass(frozen=True)
class LineRequest:
    """Lines of weights from `first` on: `count` in all, as f32_conv takes it where not 0.

    `lines` before every `steps` channels; before each tile where `steps` is 0.
    """

    first: int
    lines: int = 0
    steps: int = 0
    count: int = 0


def lines_of_tiles(layer: ConvWorkload, run: int, tile: Tile, lanes: int, asking: Asking) -> int:
    """Return how many lines of the next layers' weights each tile of a whole layer asks for.

    Tiles pass over `run` pixels one after the other.
    """
    tile_pixels, tile_vectors, depth = tile
    vectors = ceil(layer.outs * depth / lanes)
    tiles = ceil(run / tile_pixels) * ceil(vectors / tile_vectors) * layer.groups
    work = tile_pixels * min(tile_vectors, vectors) * layer.taps * layer.channels // depth
    runs = layer.pixels // run
    return min(work // asking.per_line, asking.ahead // (LINE * runs * tiles))


def even_request(step: KernelCall, first: int, end: int, lanes: int, asking: Asking) -> LineRequest:
    """Return what a convolution asks for, from `first` up to about `end`, all along its loops.

    The fewest lines at once that come within a tenth of what there is to ask for and time to.
    """
    a, depth = step.arguments, step.arguments["tile_depth"]
    vectors = ceil(a["outs"] * depth / lanes)
    runs, pixels = conv_runs(a)
    runs *= a["groups"]
    tiles = runs * ceil(pixels / a["tile_pixels"]) * ceil(vectors / a["tile_vectors"])
    terms = a["channels"] // depth
    work = runs * pixels * vectors * a["taps"] * terms
    count = min((end - first) // LINE, work // asking.per_line)
    if count <= 0:
        return LineRequest(first)
    found = []
    for lines in range(1, MOST_LINES + 1):
        steps = min(max(1, tiles * a["taps"] * terms * lines // count), terms)
        made = tiles * a["taps"] * ceil(terms / steps) * lines
        found.append(LineRequest(first, lines, steps * depth, made))
    best = min(found, key=lambda each: (max(abs(each.count - count), count // 10), each.lines))
    return best if best.count < 2 * count else LineRequest(first)


def _asked_by_tiles(
    step: KernelCall, thread: int, reached: list[int], constants: Constants
) -> KernelCall:
    """Return a convolution of bytes whose blocks of tiles ask, each for as much as it has time for.

    Offsets are in bytes here, and in floats in `reached`.
    """
    a, start = step.arguments, step.arguments["w"].offset
    steps = a["taps"] * ceil(a["channels"] / TILE_STEP)
    depth = TILE_STEP if a["channels"] > TILE_STEP else round_up(a["channels"], 4)
    panels = ceil(a["outs"] / a["panel"])
    panel = steps * depth * a["panel"]
    end = start + panels * panel
    own = panel if a["weights_outer"] else end - start
    first = max(FLOAT32.bytes * reached[thread], start + own)
    blocks = tile_blocks(a)
    wanted = ceil((end + constants.ahead - first) / LINE_BYTES / blocks)
    time = steps * PRODUCTS_OF_BLOCK * TILE_CYCLES + EPILOGUE_CYCLES
    lines = max(0, min(wanted, time // LINE_CYCLES))
    reached[thread] = max(end, first + lines * blocks * LINE_BYTES) // FLOAT32.bytes
    if not lines:
        return step
    view = TensorView(a["w"].buffer, first, (0,), (1,))
    return step.with_arguments(prefetch_lines=lines, next=view)


def tile_blocks(a: Mapping[str, Any]) -> int:
    """Return the blocks of a call of u8_quantized_conv: two tiles of pixels by two of outputs."""
    pitch = a["pitch"]
    run = (a["rows"] - 1) * pitch + a["width"] if pitch else a["width"]
    tiles = ceil(run / TILE_PIXELS)
    pairs = 0 if run < 2 * TILE_PIXELS else tiles // 2
    runs = a["images"] * (1 if pitch else a["rows"])
    return runs * (tiles - pairs) * ceil(a["outs"] / a["panel"])


def _asked(step: KernelCall, request: LineRequest, near: int) -> KernelCall:
    view = TensorView(0, request.first, (0,), (1,)) if request.lines else None
    return step.with_arguments(
        near_steps=near, prefetch_lines=request.lines, prefetch_steps=request.steps, next=view
    )
