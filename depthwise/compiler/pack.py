"""Weights in the order in which the kernels read them, and the tiles that they are packed for."""

from dataclasses import dataclass
from math import ceil

import numpy as np

Array = np.ndarray


def round_up(number: int, multiple: int) -> int:
    """Return the least multiple of `multiple` that is not below `number`."""
    return ceil(number / multiple) * multiple


def pixels_share(outs: int, lanes: int) -> bool:
    """Tell whether two pixels share the last vector of outputs, which is at most half full."""
    return lanes >= 8 and 0 < outs % lanes <= lanes // 2


def pack_conv(weight: Array, groups: int, lanes: int, tile_vectors: int) -> Array:
    """Return (K, C / groups, R, S) as f32_conv reads it, flat: [group][block][tap][c][k].

    A block is tile_vectors vectors of `lanes` output channels; a group's last block is only as wide
    as its channels rounded up to a vector, with zeros beyond them, or, where at most half a vector
    is left, with that half again: two pixels share it. Raises ValueError if groups do
    not divide K.
    """
    K, channels, R, S = weight.shape
    if K % groups:
        raise ValueError(f"{K} output channels in {groups} groups: groups must divide them")
    padded, block = round_up(K // groups, lanes), tile_vectors * lanes
    by_tap = np.zeros((groups, R * S, channels, padded), np.float32)
    taps = weight.reshape(groups, K // groups, channels, R * S)
    by_tap[..., : K // groups] = taps.transpose(0, 3, 2, 1)
    if pixels_share(K // groups, lanes):
        halves = by_tap[..., -lanes:].reshape(*by_tap.shape[:3], 2, lanes // 2)
        halves[..., 1, :] = halves[..., 0, :]
    blocks = [
        by_tap[g, ..., first : first + block].ravel()
        for g in range(groups)
        for first in range(0, padded, block)
    ]
    return np.concatenate(blocks)


def pack_bias(bias: Array, groups: int, lanes: int) -> Array:
    """Return (K) flat as [group][k], each group padded with zeros to whole vectors."""
    by_group = bias.reshape(groups, -1)
    per_group = by_group.shape[1]
    padded = np.zeros((groups, round_up(per_group, lanes)), np.float32)
    padded[:, :per_group] = by_group
    return padded.ravel()


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


def default_tile(
    lanes: int, registers: int, width: int, outs: int, reread: float = 0
) -> tuple[int, int]:
    """Return (pixels, vectors) of f32_conv's register tile for rows of `width` pixels, `outs` wide.

    The tile that takes the fewest steps for a row, its remainders included; among equals the one
    with the fewest loads. Measured with AVX-512, 7 x 3, 8 x 3, 6 x 4 and 14 x 2 all reach 97 % of
    the FMA peak and more; a tile with no register to spare spills, and halves it. `reread` is what
    a vector of weights costs each time that pixels pass over it, in steps of half a cycle.
    """
    return best_tiles(lanes, registers, width, outs, reread)[0]


def best_tiles(
    lanes: int, registers: int, width: int, outs: int, reread: float = 0
) -> list[tuple[int, int]]:
    """Return for each number of vectors the tile that takes the fewest steps, the best first."""
    blocks = _Blocks(ceil(outs / lanes), pixels_share(outs, lanes))

    def cost(tile: tuple[int, int]) -> tuple[float, int]:
        steps, loads = _row_cost(tile, width, blocks)
        return steps + reread * blocks.vectors * ceil(width / tile[0]), loads

    def fits(pixels: int, vectors: int) -> bool:
        parts = blocks.of(vectors)
        return all(blocks.registers(pixels, part, last) <= registers for part, _, last in parts)

    tiles = [
        min(((p, v) for p in range(1, min(width, 16) + 1) if fits(p, v)), key=cost)
        for v in range(1, min(blocks.vectors, 8) + 1)
        if fits(1, v)
    ]
    return sorted(tiles, key=lambda tile: (cost(tile), tile))


@dataclass(frozen=True)
class _Blocks:
    """The vectors of outputs; two pixels share the last one where that is at most half full."""

    vectors: int
    shares: bool

    def of(self, width: int) -> list[tuple[int, int, bool]]:
        """Return the blocks `width` vectors wide: vectors, how many of them, whether the last."""
        parts = _parts(self.vectors, width)
        (last, count), before = parts[-1], parts[:-1]
        if count > 1:
            before = [(last, count - 1)]
        return [*((v, m, False) for v, m in before), (last, 1, True)]

    def accumulators(self, pixels: int, vectors: int, last: bool) -> int:
        """Return the sums that a tile of `pixels` keeps in registers."""
        if self.shares and last and pixels > 1:
            return pixels * (vectors - 1) + ceil(pixels / 2)
        return pixels * vectors

    def registers(self, pixels: int, vectors: int, last: bool) -> int:
        """Return the registers of a tile: sums, weights, an input or two, and one to spare."""
        return self.accumulators(pixels, vectors, last) + vectors + 2 + (self.shares and last)


def _row_cost(tile: tuple[int, int], width: int, blocks: _Blocks) -> tuple[int, int]:
    """Return the steps, and the loads, of one input channel for a row of all outputs.

    A step is half a cycle: one multiply-add or one load. 8 chains hide the 4 cycles of each.
    """
    rows, columns = _parts(width, tile[0]), blocks.of(tile[1])
    steps = sum(
        n * m * max(blocks.accumulators(p, v, last), p + v, 8)
        for p, n in rows
        for v, m, last in columns
    )
    loads = sum(n * m * (p + v) for p, n in rows for v, m, _ in columns)
    return steps, loads


def _parts(size: int, part: int) -> list[tuple[int, int]]:
    """Return (part, how many), and the remainder if there is one."""
    count, rest = divmod(size, part)
    return [(part, count), (rest, 1)] if rest else [(part, count)]
