"""How a dense convolution may be computed, and what is taken where nothing else is asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from math import ceil

from depthwise.compiler.constants import Constants
from depthwise.compiler.lowering.packing import (
    WORTHWHILE,
    Tile,
    best_tiles,
    conv_tile,
    default_tile,
    depths,
    round_up,
)
from depthwise.graph.dtypes import FLOAT32, find_dtype
from depthwise.graph.ops import Pair
from depthwise.runtime.target import Target


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
    """f32_conv with its register tile; `weights_outer` and `over_rows` as there.

    `remark` says why it was taken.
    """

    pixels: int
    vectors: int
    weights_outer: bool
    depth: int = 1
    over_rows: bool = False
    remark: str = field(default="", compare=False)

    def __str__(self) -> str:
        deep = f"x{self.depth}" if self.depth > 1 else ""
        across = " over rows" if self.over_rows else ""
        order = " by panels" if self.weights_outer else ""
        return f"tile {self.pixels}x{self.vectors}{deep}{across}{order}{self.remark}"


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
    if not found:
        return direct
    close = CLOSE_NARROW if is_narrow(layer, direct.depth, constants) else CLOSE
    faster = winograd_cost(layer, found, constants) < close * direct_cost(layer, constants)
    return found if faster else direct


# Among tiles about as good, the one that reads weights less often, in steps of default_tile:
# 14x14 80 -> 200 reaches 64 % of the multiply-add peak with 2 x 7, 94 % with 5 x 5.
DIRECT_REREAD = 0.05

# Pixels of a tile that passes over the ends of rows: each takes a register of its own for where it
# is, of which x86 has 16.
MOST_OVER_ROWS = 6


def direct_default(layer: ConvWorkload, constants: Constants) -> Direct:
    """Return the direct convolution with its default tile."""
    (pixels, vectors, depth), over_rows, _ = direct_tile(layer, constants)
    large = layer.weight_bytes(layer.taps) > constants.large
    return Direct(pixels, vectors, large, depth, over_rows)


def direct_tile(layer: ConvWorkload, constants: Constants) -> tuple[Tile, bool, float]:
    """Return f32_conv's register tile, whether it passes over the ends of rows, and its steps.

    Those are what all pixels of an image take for one channel of one tap, as conv_tile counts them.
    """
    size, lanes = layer.weight_bytes(layer.taps), constants.lanes
    price = partial(
        conv_tile, constants.target, outs=layer.outs, channels=layer.channels, taps=layer.taps,
        reread=DIRECT_REREAD, near=size < constants.near,
    )  # fmt: skip
    tile, cost = price(layer.run)
    if layer.run >= layer.rows * layer.width:
        return tile, False, cost
    steps = layer.rows * cost
    across, whole = price(layer.rows * layer.width, most=min(layer.width, MOST_OVER_ROWS))
    if whole < WORTHWHILE * steps and not shares(layer, across, lanes):
        return across, True, whole
    return tile, False, steps


def shares(layer: ConvWorkload, tile: Tile, lanes: int) -> bool:
    """Tell whether several pixels of a tile would share a vector of outputs."""
    _, vectors, depth = tile
    return depth > 1 and (layer.outs % lanes > 0 or vectors % depth > 0)


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
            most = MOST if depth == direct.depth else 1
            found += [
                replace(direct, pixels=p, vectors=v, depth=depth)
                for p, v, _ in tiles_like(direct, layer, depth, target)[:most]
            ]
        blocks = ceil(layer.outs * direct.depth / (direct.vectors * target.lanes))
        if blocks > 1 and layer.pixels > direct.pixels:
            found.insert(2, replace(direct, weights_outer=not direct.weights_outer))
    return list(dict.fromkeys(found))[:MOST]


def tiles_like(direct: Direct, layer: ConvWorkload, depth: int, target: Target) -> list[Tile]:
    """Return the best tiles of a depth that pass over the ends of rows if `direct` does."""
    terms = layer.channels * layer.taps
    price = partial(best_tiles, target.lanes, target.registers, outs=layer.outs, depth=depth)
    if not direct.over_rows:
        return price(layer.run, terms=terms)
    plane, most = layer.rows * layer.width, min(layer.width, MOST_OVER_ROWS)
    tiles = price(plane, terms=terms, most=most)
    return [tile for tile in tiles if not shares(layer, tile, target.lanes)]


def direct_only(layers: Algorithms, constants: Constants) -> Algorithms:
    """Return direct convolutions for the layers of a plan, `plan.algorithms`, to make another."""
    return {layer: direct_default(layer, constants) for layer in layers}


def like(others: Algorithms, constants: Constants) -> Algorithms:
    """Return the ways in which another target computes the same layers, with tiles of this one.

    So both read the same weights.
    """
    return {
        layer: with_points(layer, way.points, constants)
        if isinstance(way, Winograd)
        else direct_default(layer, constants)
        for layer, way in others.items()
    }


# ------------------------------------------------------------------------------------- Winograd

# In multiply-adds at full speed, an element of V or M costs TRANSFORM to make, store and load, and
# a weight the core's `fetch` (compiler/constants.py). Fitted to layers of ResNet-50, GoogLeNet and
# Inception v3 whose weights are in no cache.
TRANSFORM = 9
CLOSE = 0.95

# Where direct tiles have a depth they reach 0.82 to 0.9 of their estimate, Winograd 0.9 to 0.98: on
# a Xeon with AVX-512, 32x32 8 -> 8 takes 7.1 us directly and 9.7 by Winograd, 16 -> 8 12.9 and
# 12.0, 12 -> 12 14.4 and 11.0.
CLOSE_NARROW = 1.1

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
        target.lanes, target.registers, ceil(tiles / batches), layer.outs, reread, target.panel
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
    terms = layer.taps * layer.channels * layer.groups
    weights = terms * round_up(layer.outs, constants.lanes)
    (_, _, depth), _, steps = direct_tile(layer, constants)
    if is_narrow(layer, depth, constants):
        products = terms * layer.images * steps * constants.lanes
        return products + constants.fetch * weights
    return weights * (layer.pixels + constants.fetch)


def is_narrow(layer: ConvWorkload, depth: int, constants: Constants) -> bool:
    """Tell whether outputs leave lanes idle that a direct tile of this depth fills.

    Then it takes its steps, in place of a multiply-add for each lane.
    """
    return depth > 1 and layer.outs % constants.lanes > 0
