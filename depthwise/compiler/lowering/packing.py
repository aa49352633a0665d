"""Weights in the order in which the kernels read them, and the tiles that they are packed for."""

from math import ceil, inf

import numpy as np

from depthwise.runtime.target import Target

Array = np.ndarray


def round_up(number: int, multiple: int) -> int:
    """Return the least multiple of `multiple` that is not below `number`."""
    return ceil(number / multiple) * multiple


def pack_conv(weight: Array, groups: int, lanes: int, vectors: int, depth: int = 1) -> Array:
    """Return (K, C / groups, R, S) as f32_conv reads it, flat.

    In the order [group][block][tap][c / depth][vector][lane]; `vectors` and `depth` are the tile's.
    A vector of `lanes` has lanes / depth outputs, and of each `depth` input channels side by side;
    which output lies where says kernels/conv.h. A group's last block has as many vectors as its
    channels need, with zeros beyond them. Raises ValueError if groups do not divide K, or depth not
    C / groups.
    """
    K, channels, R, S = weight.shape
    if K % groups:
        raise ValueError(f"{K} output channels in {groups} groups: groups must divide them")
    if channels % depth:
        raise ValueError(f"{channels} input channels, {depth} at once: that must divide them")
    wide, outs = lanes // depth, K // groups
    rows = round_up(outs, wide)
    grouped = weight.reshape(groups, outs, channels // depth, depth, R * S)
    packed = np.empty(groups * rows * channels * R * S, np.float32)
    at = 0
    # block by block, for the weights of one layer may be half of a gigabyte
    for g in range(groups):
        for first in range(0, rows, vectors * wide):
            real = grouped[g, first : first + vectors * wide]
            block = np.zeros((min(vectors * wide, rows - first), *real.shape[1:]), np.float32)
            block[: len(real)] = real
            # as [tap][c / depth][k][c % depth]
            laid = _in_vectors(block.transpose(3, 1, 0, 2), lanes)
            packed[at : at + laid.size] = laid.reshape(-1)
            at += laid.size
    return packed


def _in_vectors(block: Array, lanes: int) -> Array:
    """Return a block of whole vectors, (..., k, depth), with k in the order of its lanes."""
    *_, outs, depth = block.shape
    parts = []
    for first in range(0, outs, lanes):  # what `depth` vectors are added across to
        part = block[..., first : first + lanes, :]
        count = part.shape[-2] * depth // lanes  # of these vectors, fewer at the end
        by_group = part.reshape(*part.shape[:-2], -1, count, depth)
        parts.append(by_group.swapaxes(-3, -2).reshape(part.shape))
    return np.concatenate(parts, -2)


def pack_conv_bias(bias: Array, groups: int, lanes: int, vectors: int, depth: int) -> Array:
    """Return (K) flat as f32_conv reads it: what one input channel's weights would be."""
    weight = np.zeros((len(bias), depth, 1, 1), np.float32)
    weight[:, 0, 0, 0] = bias
    return pack_conv(weight, groups, lanes, vectors, depth)


def pack_bias(bias: Array, groups: int, lanes: int) -> Array:
    """Return (K) flat as [group][k], each group padded with zeros to whole vectors."""
    return pack_conv_bias(bias, groups, lanes, 1, 1)


def pack_depthwise(weight: Array, lanes: int) -> Array:
    """Return (C, 1, R, S) as f32_depthwise reads it, flat: [tap][c].

    c is padded with zeros to whole vectors. Raises ValueError for a multiplier above 1.
    """
    channels, one, R, S = weight.shape
    if one != 1:
        raise ValueError(f"weight {weight.shape}: a depthwise convolution has (C, 1, R, S)")
    packed = np.zeros((R * S, round_up(channels, lanes)), np.float32)
    packed[:, :channels] = weight.reshape(channels, R * S).T
    return packed.ravel()


Tile = tuple[int, int, int]  # pixels, vectors, depth

DEPTHS = (1, 2, 4)
MOST_PIXELS = 16  # of a tile, as in kernels/conv.h

# Steps that a vector of outputs takes at the end of a tile of each depth, to be added across, and
# those more where pixels share it; fitted with AVX-512 to 8 to 144 channels and 8 to 96 outputs.
ENDS, SHARED = {1: 2.2, 2: 2.2, 4: 9.0}, 3.0
WORTHWHILE = 0.97  # of the cost of depth 1, or of tiles that end with their rows

# LEAST_SUMS hide the 4 cycles that a multiply-add takes, two of which begin in each, but no delay
# besides: with AVX2 12 sums reach 99 % of the peak, 10 95, 8 87 and 7 75, for 6 x 2, 5 x 2, 4 x 2
# and 7 x 1. Where registers are few there is no choice but among these, and a sum too few takes
# WAIT steps.
LEAST_SUMS, ENOUGH_SUMS, WAIT, FEW_REGISTERS = 8, 12, 0.3, 16


def conv_tile(  # noqa: PLR0913, PLR0917
    target: Target, width: int, outs: int, channels: int, taps: int, reread: float = 0,
    near: bool = False, most: int = MOST_PIXELS,
) -> tuple[Tile, float]:  # fmt: skip
    """Return f32_conv's register tile for rows of `width` pixels, and what one channel costs.

    That is in steps, the rest as in default_tile. `near` tells that all weights stay in the first
    cache, `most` how many pixels a tile may have.

    Its depth is above 1 where else vectors of outputs would not be full, or loads of the input
    would take longer than multiply-adds: 112x112 pixels of 16 channels to 8 outputs reach 73 % of
    the multiply-add peak with 2, 41 % with 1; 56x56 of 72 to 12 reach 77 % with 4, 61 % with 1. A
    lone pixel waits for its weights, whatever the depth.
    """
    lanes, registers = target.lanes, target.registers
    found = {}
    for depth in depths(lanes, channels) if width > 1 else [1]:
        # Small weights stay near: 24 -> 72 then gains 4 % by 4 x 6 over 14 x 2, but 480 -> 56 takes
        # 1.35 times as long with 2 x 7.
        again = 0 if depth > 1 and near else reread
        panel = target.panel if depth == 1 else 0
        costs = _costs(lanes, registers, width, outs, depth, channels * taps, again, panel, most)
        tile, cost = costs[0]
        found[tile] = cost / depth
    plain, *_ = found
    best = min(found, key=found.__getitem__)
    chosen = best if found[best] < WORTHWHILE * found[plain] else plain
    return chosen, found[chosen]


def depths(lanes: int, channels: int) -> list[int]:
    """Return the depths of a tile that f32_conv can take, 1 first.

    Vectors of 4 lanes gain little: most numbers of outputs fill them.
    """
    return [depth for depth in DEPTHS if depth == 1 or (lanes > 4 and channels % depth == 0)]


def default_tile(
    lanes: int, registers: int, width: int, outs: int, reread: float = 0, panel: int = 0
) -> tuple[int, int]:
    """Return (pixels, vectors) of a register tile of depth 1 for rows of `width` pixels.

    The tile that takes the fewest steps for a row, its remainders included; among equals the one
    with the fewest loads. Measured with AVX-512, 7 x 3, 8 x 3, 6 x 4 and 14 x 2 all reach 97 % of
    the FMA peak and more; a tile with no register to spare spills, and halves it. `reread` is what
    a vector of weights costs each time that pixels pass over it, in steps of half a cycle. Where
    weights lie in panels, vectors fill one or several of them, or a part that divides one.
    """
    (tile, _), *_ = _costs(lanes, registers, width, outs, 1, inf, reread, panel)
    return tile[:2]


def best_tiles(
    lanes: int, registers: int, width: int, outs: int, depth: int = 1, terms: float = inf,
    most: int = MOST_PIXELS,
) -> list[Tile]:  # fmt: skip
    """Return for each number of vectors the tile that costs least, the best first.

    `terms` is how many products a sum has: of few, the end of a tile is a larger part. A tile has
    at most `most` pixels.
    """
    costs = _costs(lanes, registers, width, outs, depth, terms, 0, most=most)
    return [tile for tile, _ in costs]


def _costs(  # noqa: PLR0913, PLR0917
    lanes: int, registers: int, width: int, outs: int, depth: int, terms: float, reread: float,
    panel: int = 0, most: int = MOST_PIXELS,
) -> list[tuple[Tile, float]]:  # fmt: skip
    """Return the tiles, and the steps of a row for `depth` terms with their part of its ends."""
    vectors = ceil(outs * depth / lanes)
    hiding = ENOUGH_SUMS if registers <= FEW_REGISTERS else LEAST_SUMS

    def cost(tile: Tile) -> tuple[float, int]:
        steps, loads = _row_cost(tile, width, vectors, hiding)
        ends = _row_ends(tile, width, vectors) * depth / terms
        return steps + reread * vectors * ceil(width / tile[0]) + ends, loads

    def fits(pixels: int, vectors: int) -> bool:
        wide = vectors * lanes
        divides = not panel or wide % panel == 0 or panel % wide == 0
        # sums, weights, inputs, one to spare
        return divides and pixels * vectors + vectors + 2 <= registers

    tiles = [
        min(((p, v, depth) for p in range(1, min(width, most) + 1) if fits(p, v)), key=cost)
        for v in range(1, min(vectors, 8) + 1)
        if fits(1, v)
    ]
    return [(tile, cost(tile)[0]) for tile in sorted(tiles, key=lambda tile: (cost(tile), tile))]


def _row_cost(tile: Tile, width: int, vectors: int, hiding: int) -> tuple[float, int]:
    """Return the steps, and the loads, of `depth` input channels for a row of all outputs.

    A step is half a cycle: one multiply-add or one load.
    """
    rows, columns = _parts(width, tile[0]), _parts(vectors, tile[1])
    steps = sum(n * m * max(p + v, _chained(p * v, hiding)) for p, n in rows for v, m in columns)
    loads = sum(n * m * (p + v) for p, n in rows for v, m in columns)
    return steps, loads


def _chained(sums: int, hiding: int) -> float:
    """Return the steps of a multiply-add for each of some sums, which wait for those before."""
    waiting = max(sums, LEAST_SUMS)
    return waiting + WAIT * max(0, hiding - waiting)


def _row_ends(tile: Tile, width: int, vectors: int) -> float:
    """Return the steps of the ends of a row's tiles."""
    depth = tile[2]
    total = 0.0
    for pixels, n in _parts(width, tile[0]):
        for wide, m in _parts(vectors, tile[1]):
            whole, left = divmod(wide, depth)
            share = depth // left if left else 1
            ends = whole * pixels * ENDS[depth]
            if left:
                ends += ceil(pixels / share) * (ENDS[depth] + SHARED * (share > 1))
            total += n * m * ends
    return total


def _parts(size: int, part: int) -> list[tuple[int, int]]:
    """Return (part, how many), and the remainder if there is one."""
    count, rest = divmod(size, part)
    return [(part, count), (rest, 1)] if rest else [(part, count)]
