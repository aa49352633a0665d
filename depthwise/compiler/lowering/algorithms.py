"""How a dense convolution may be computed, and what is taken where nothing else is asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from math import ceil

from depthwise.compiler.constants import Constants
from depthwise.compiler.lowering.packing import (
    best_tiles,
    conv_tile,
    default_tile,
    depths,
    round_up,
)
from depthwise.graph.dtypes import FLOAT32, find_dtype
from depthwise.graph.ops import Pair


@dataclass(frozen=True)
class ConvWorkload:
    """All that the speed of a convolution, or of one phase or linear layer, depends on.

    `run` is how many output pixels follow each other evenly: `width`, or all of a plane without
    gaps. `window` is (R, S) where the taps are R x S neighbours and the stride is 1, else None.
    Channels are those of one group. `dtype` is the element type of inputs, weights and outputs.
    """

    images: int
    rows: int
    width: int
    run: int
    taps: int
    window: Pair | None
    channels: int
    outs: int
    groups: int
    dtype: str = FLOAT32.name

    def weight_bytes(self, times: int = 1) -> int:
        """Return the bytes of a group's weights, `times` for each pair of channels."""
        return times * self.channels * self.outs * find_dtype(self.dtype).bytes

    @property
    def pixels(self) -> int:
        """Pixels of the output, of all images."""
        return self.images * self.rows * self.width


@dataclass(frozen=True)
class Direct:
    """f32_conv with its register tile; `weights_outer` as there. `remark` says why it was taken."""

    pixels: int
    vectors: int
    weights_outer: bool
    depth: int = 1
    remark: str = field(default="", compare=False)

    def __str__(self) -> str:
        deep = f"x{self.depth}" if self.depth > 1 else ""
        order = " by panels" if self.weights_outer else ""
        return f"tile {self.pixels}x{self.vectors}{deep}{order}{self.remark}"


@dataclass(frozen=True)
class Winograd:
    """f32_winograd with its points down and across, its register tile, and its tiles a batch.

    `remark` says why it was taken.
    """

    points: Pair
    pixels: int
    vectors: int
    batch: int
    remark: str = field(default="", compare=False)

    def __str__(self) -> str:
        points = "x".join(map(str, self.points))
        tile = f"{self.batch} at once, tile {self.pixels}x{self.vectors}"
        return f"Winograd of {points} points, {tile}{self.remark}"


Algorithm = Direct | Winograd
Algorithms = Mapping[ConvWorkload, Algorithm]

# The interpolation points for a number of taps along an axis. More points lose precision: against
# float64, 128 channels of 3x3 are off by 5e-7 of their deviation directly, 1.3e-6 with 6x6
# points, 4.5e-6 with 8x8; 5x5 by 4.4e-6 with 8x8, 1x7 by 2.9e-6 with 10, 7x7 by 3e-5 with 10x10.
POINTS = {1: (1,), 2: (4, 6), 3: (4, 6), 4: (6, 8), 5: (6, 8), 6: (8, 10), 7: (8, 10)}
MOST_POINTS = 64  # of both axes together


# Candidates that are timed for a layer: at most MOST, each within FAR times the cheapest estimate.
MOST, FAR = 5, 1.4


def choose(layer: ConvWorkload, constants: Constants) -> Algorithm:
    """Return the algorithm that costs least by our estimate, a direct one where it is close."""
    direct = direct_default(layer, constants)
    found = min(
        winograd_candidates(layer, constants),
        key=lambda w: winograd_cost(layer, w, constants),
        default=None,
    )
    if found and winograd_cost(layer, found, constants) < CLOSE * direct_cost(layer, constants):
        return found
    return direct


# Among tiles about as good, the one that reads weights less often, in steps of default_tile:
# 14x14 80 -> 200 reaches 64 % of the multiply-add peak with 2 x 7, 94 % with 5 x 5.
DIRECT_REREAD = 0.05


def direct_default(layer: ConvWorkload, constants: Constants) -> Direct:
    """Return the direct convolution with its default tile."""
    size = layer.weight_bytes(layer.taps)
    pixels, vectors, depth = conv_tile(
        constants.target, layer.run, layer.outs, layer.channels, layer.taps, DIRECT_REREAD,
        near=size < constants.near,
    )  # fmt: skip
    return Direct(pixels, vectors, size > constants.large, depth)


def candidates(layer: ConvWorkload, constants: Constants) -> list[Algorithm]:
    """Return the few ways to compute a layer that are worth trying, the default first."""
    target, direct = constants.target, direct_default(layer, constants)
    costs: dict[Algorithm, float] = {direct: direct_cost(layer, constants)}
    for winograd in winograd_candidates(layer, constants):
        costs[winograd] = winograd_cost(layer, winograd, constants)
    near = sorted(
        (each for each in costs if costs[each] < FAR * min(costs.values())), key=costs.__getitem__
    )
    found = [choose(layer, constants), *near]
    if direct in found:
        for depth in depths(target.lanes, layer.channels):
            tiles = best_tiles(
                target.lanes, target.registers, layer.run, layer.outs, depth,
                layer.channels * layer.taps,
            )  # fmt: skip
            most = MOST if depth == direct.depth else 1
            found += [Direct(p, v, direct.weights_outer, depth) for p, v, _ in tiles[:most]]
        blocks = ceil(layer.outs * direct.depth / (direct.vectors * target.lanes))
        if blocks > 1 and layer.pixels > direct.pixels:
            found.insert(2, replace(direct, weights_outer=not direct.weights_outer))
    return list(dict.fromkeys(found))[:MOST]


def direct_only(layers: Algorithms, constants: Constants) -> Algorithms:
    """Return direct convolutions for the layers of a plan, `plan.algorithms`, to make another."""
    return {layer: direct_default(layer, constants) for layer in layers}


# ------------------------------------------------------------------------------------- Winograd

# In multiply-adds at full speed, an element of V or M costs TRANSFORM to make, store and load, and
# a weight the core's `fetch` (compiler/constants.py). Fitted to layers of ResNet-50, GoogLeNet and
# Inception v3 whose weights are in no cache.
TRANSFORM = 9
CLOSE = 0.95

# Weights that come from memory should pass by few times: 14x14x256 takes 390 us with a tile of
# 16 x 1, 430 with 8 x 3 though that loads less, both fetching ahead. The part of `fetch` that a
# weight costs then, in steps of default_tile.
REREAD = 1 / 4


def winograd_candidates(layer: ConvWorkload, constants: Constants) -> list[Winograd]:
    """Return Winograd convolutions with each pair of points that the taps allow; maybe none."""
    if layer.window is None or layer.groups > 1 or layer.window == (1, 1):
        return []
    choices = [POINTS.get(taps, ()) for taps in layer.window]
    return [
        with_points(layer, points, constants)
        for points in product(*choices)
        if points[0] * points[1] <= MOST_POINTS
    ]


def with_points(layer: ConvWorkload, points: Pair, constants: Constants) -> Winograd:
    """Return the Winograd convolution of a layer with its default tile and batch.

    A batch's V is to stay in the second cache beside M and the weights that stream by; weights that
    do not stay there themselves are read once a batch, so that larger batches are worth more.
    """
    target, count = constants.target, points[0] * points[1]
    tiles = tile_count(layer, points)
    large = layer.weight_bytes(count) > 4 * constants.large
    reread = REREAD * constants.fetch if large else 0
    room = (4 if large else 1) * constants.large
    most = room // (count * layer.channels * find_dtype(layer.dtype).bytes)
    batches = ceil(tiles / max(most, min(tiles, 8)))
    pixels, vectors = default_tile(
        target.lanes, target.registers, ceil(tiles / batches), layer.outs, reread
    )
    batch = min(tiles, ceil(ceil(tiles / batches) / pixels) * pixels)
    return Winograd(points, pixels, vectors, batch)


def tile_count(layer: ConvWorkload, points: Pair) -> int:
    """Return how many Winograd tiles cover the output."""
    assert layer.window is not None
    down, across = (n - r + 1 for n, r in zip(points, layer.window, strict=True))
    return layer.images * ceil(layer.rows / down) * ceil(layer.width / across)


def winograd_cost(layer: ConvWorkload, winograd: Winograd, constants: Constants) -> float:
    """Return the estimated time of a layer, in multiply-adds at full speed."""
    points = winograd.points[0] * winograd.points[1]
    channels, outs = (round_up(n, constants.lanes) for n in (layer.channels, layer.outs))
    tiles = tile_count(layer, winograd.points)
    weights = layer.channels * outs
    return points * (tiles * (weights + TRANSFORM * (channels + outs)) + constants.fetch * weights)


def direct_cost(layer: ConvWorkload, constants: Constants) -> float:
    """Return the estimated time of the direct convolution, in multiply-adds at full speed."""
    weights = layer.taps * layer.channels * round_up(layer.outs, constants.lanes) * layer.groups
    return weights * (layer.pixels + constants.fetch)
