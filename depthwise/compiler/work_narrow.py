"""How much work one call of a kernel of bytes or of 16 bits is, as work.py has it for float32.

Tiles of AMX and vectors are counted by other names, so that each has a time of its own.
"""

from math import ceil

from depthwise.compiler.work import (
    Arguments,
    Features,
    count_products,
    count_tile_loads,
    count_tiles,
)

TILE = 16  # pixels, and outputs, of a tile of AMX
PANEL = 32  # outputs of a block of tiles
BYTES_DEPTH, BF16_DEPTH, F16_DEPTH = 64, 32, 64  # channels of a step, at most
F16_TILE = (14, 2)  # pixels and vectors of kernels/plain_conv_T16.h on AVX-512
WEAVED, RUN, KERNEL = 4, 8, 7  # rows, pixels and the largest kernel of depthwise_u8_woven.h

# ----------------------------------------------------------------------------- lists of taps


def count_quantized_conv(a: Arguments, lanes: int) -> Features:
    """Count the products of a convolution of bytes, by tiles of AMX or by vectors."""
    if a["tiles"]:
        return _count_blocks(a, ceil(a["channels"] / BYTES_DEPTH), a["requantize"].add)
    fours, runs = a["taps"] * ceil(a["channels"] / 4), a["images"] * a["rows"]
    tiles = count_tiles(a["width"], ceil(a["outs"] / lanes), a["tile_pixels"], 2)
    return count_products(tiles, fours, runs)


def count_bf16_conv(a: Arguments, lanes: int) -> Features:  # noqa: ARG001
    """Count the products of a convolution of bfloat16 by tiles of AMX."""
    return _count_blocks(a, ceil(a["channels"] / BF16_DEPTH), a["epilogue"].add)


def count_f16_conv(a: Arguments, lanes: int) -> Features:
    """Count the products of a convolution of float16, and how often halves join the floats."""
    steps = a["taps"] * ceil(a["channels"] / F16_DEPTH)
    runs = a["images"] * a["rows"]
    tiles = count_tiles(a["width"], ceil(a["outs"] / lanes), *F16_TILE)
    found = count_products(tiles, a["taps"] * ceil(a["channels"] / 2), runs)
    return {**found, "joins": steps * found["stores"]}


def _count_blocks(a: Arguments, steps: int, adds: bool) -> Features:
    """Count blocks of two tiles of pixels by two of outputs: products, loads, pixels finished."""
    runs, pixels = _runs(a)
    tiles, halves, panels = ceil(pixels / TILE), ceil(a["outs"] / TILE), ceil(a["outs"] / PANEL)
    products = runs * a["taps"] * steps
    blocks = runs * ceil(tiles / 2) * panels
    finished = float(a["images"] * a["rows"] * a["width"] * panels)
    return {
        "tile products": products * tiles * halves * min(pixels, TILE) / TILE,
        "tile loads": float(products * (tiles * panels + ceil(tiles / 2) * halves)),
        "blocks": float(blocks),
        "finished": finished,
        "added": finished if adds else 0.0,
    }


def _runs(a: Arguments) -> tuple[int, int]:
    """Return how many runs of pixels tiles pass over, and the pixels of each."""
    if a["pitch"]:
        return a["images"], (a["rows"] - 1) * a["pitch"] + a["width"]
    return a["images"] * a["rows"], a["width"]


def tiles_again(a: Arguments, lanes: int) -> tuple[int, int]:
    """Return the weights that blocks of pixels but the first read once more, and those between."""
    passes = _passes(a)
    panel = 2 * lanes
    row = a["taps"] * ceil(a["channels"] / 4) * 4
    weights = row * ceil(a["outs"] / panel) * panel
    return (passes - 1) * weights, row * panel if a["weights_outer"] else weights


def tiles_stream(a: Arguments) -> bool:
    """Tell whether each weight is read once."""
    return _passes(a) == 1


def _passes(a: Arguments) -> int:
    """Return how many blocks of pixels pass over each weight."""
    runs, pixels = _runs(a)
    return runs * ceil(pixels / (2 * TILE if a.get("tiles", 1) else a["tile_pixels"]))


# ------------------------------------------------------------------------------- depthwise


def count_pair_depthwise(a: Arguments, lanes: int) -> Features:
    """Count the multiply-adds of vectors of pairs, and what tiles of up to 2 x 7 pixels load."""
    vectors = a["images"] * ceil(a["channels"] / (2 * lanes))
    taps, wide = a["R"] * a["S"], 7 if lanes != 8 else 4
    loads, tiles = count_tile_loads(a, 2 if lanes == 16 else 1, wide)
    return {
        "products": float(vectors * a["rows"] * a["width"] * taps),
        "loads": float(vectors * loads),
        "stores": float(vectors * a["rows"] * a["width"]),
        "tiles": float(vectors * tiles),
    }


def count_quantized_depthwise(a: Arguments, lanes: int) -> Features:
    """Count the columns that are woven, the products of them, and the bytes that are stored."""
    if max(a["R"], a["S"]) > KERNEL or a["dilation_y"] > 1 or a["dilation_x"] > 1:
        vectors = a["images"] * ceil(a["channels"] / lanes)
        return {"plain": float(vectors * a["rows"] * a["width"] * a["R"] * a["S"])}
    height = 2 if a["rows"] > 1 and _groups(a, 2) == _groups(a, 1) else 1
    groups, whole, rest = _groups(a, height), *divmod(a["channels"], 4 * lanes)
    runs = ceil(a["width"] / RUN)
    pixels = runs * ceil(a["width"] / runs)
    parts = max(1, min(4 * lanes // rest, ceil(a["rows"] / height))) if rest else 1
    passes = whole * ceil(a["rows"] / height) + bool(rest) * ceil(a["rows"] / (height * parts))
    columns = pixels * a["stride_x"] + max(0, a["S"] - a["stride_x"])
    return {
        "columns": float(a["images"] * passes * columns * groups),
        "products": float(a["images"] * passes * pixels * height * a["S"] * groups),
        "stores": float(a["images"] * passes * pixels * height),
        "part loads": float(a["images"] * ceil(a["rows"] / height) * columns) if rest else 0.0,
        "prepared": float((whole + bool(rest)) * height * groups * a["S"]),
    }


def _groups(a: Arguments, rows: int) -> int:
    """Return the woven groups of rows of the input under so many rows of outputs."""
    return ceil(((rows - 1) * a["stride_y"] + a["R"]) / WEAVED)
