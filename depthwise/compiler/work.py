"""How much work one call of a kernel is, from its arguments: what its time is made of."""

from collections.abc import Mapping
from math import ceil, prod
from typing import Any

from depthwise.hardware.arithmetic import VECTORS, Arithmetic, bytes_of, halves_of
from depthwise.runtime.target import Target

Arguments = Mapping[str, Any]  # of a call, by their names
Features = dict[str, float]  # how much there is of each thing that takes time, by name

LINE = 16  # floats of a cache line, as in kernels/conv.h

# ------------------------------------------------------------------------------------- f32_conv


def count_conv(a: Arguments, lanes: int) -> Features:
    """Count the products of a convolution's register tiles, and the taps that these start."""
    depth, (runs, pixels) = a["tile_depth"], conv_runs(a)
    vectors = ceil(a["outs"] * depth / lanes)
    tiles = count_tiles(pixels, vectors, a["tile_pixels"], a["tile_vectors"])
    found = count_products(tiles, a["taps"] * a["channels"] // depth, runs * a["groups"])
    return {**found, "taps": found["tiles"] * a["taps"]}


def conv_runs(a: Arguments) -> tuple[int, int]:
    """Return how many runs of pixels there are that tiles pass over, and the pixels of each."""
    if a["over_rows"]:
        return a["images"], a["rows"] * a["width"]
    return a["images"] * a["rows"], a["width"]


def conv_products(a: Arguments) -> int:
    """Return the multiply-adds of a convolution."""
    names = ("images", "rows", "width", "taps", "channels", "outs", "groups")
    return prod(a[name] for name in names)


def conv_reach(a: Arguments) -> tuple[int, int]:
    """Return the first float that the taps read, and how far all of them read."""
    offsets = a["offsets"].values
    reach = max(offsets) - min(offsets) + a["channels"] * a["groups"]
    return min(offsets), _images(a, a["in_row"], a["in_pixel"]) + reach


def conv_again(a: Arguments, lanes: int) -> tuple[int, int]:
    """Return the weights that each tile but the first reads once more, and those in between."""
    tiles = _pixel_tiles(a)
    depth = a["tile_depth"]
    vectors = ceil(a["outs"] * depth / lanes)
    weights = a["taps"] * a["channels"] // depth * vectors * lanes
    panel = weights * min(a["tile_vectors"], vectors) // vectors
    return (tiles - 1) * weights * a["groups"], panel if a["weights_outer"] else weights


def conv_streams(a: Arguments) -> bool:
    """Tell whether one tile has all pixels, so that each weight is read once."""
    return _pixel_tiles(a) == 1


def _pixel_tiles(a: Arguments) -> int:
    """Return how many tiles of pixels pass over each weight."""
    runs, pixels = conv_runs(a)
    return runs * ceil(pixels / a["tile_pixels"])


def conv_fetches(a: Arguments, lanes: int) -> tuple[int, int]:
    """Return the first float of weights to come that it brings closer, and how many."""
    if a["next"] is None:
        return 0, 0
    vectors = ceil(a["outs"] * a["tile_depth"] / lanes)
    tiles = _pixel_tiles(a) * a["groups"] * ceil(vectors / a["tile_vectors"])
    steps = a["prefetch_steps"]
    times = a["taps"] * ceil(a["channels"] / steps) if steps else 1  # that each tile asks
    return a["next"].offset, tiles * times * a["prefetch_lines"] * LINE


# ------------------------------------------------------------------------ tile_conv of 16 bits


def tile_products(a: Arguments) -> int:
    """Return the multiply-adds of a convolution in tiles."""
    return prod(a[name] for name in ("images", "rows", "width", "taps", "channels", "outs"))


def linear_products(a: Arguments) -> int:
    """Return the multiply-adds of a convolution of a few pixels."""
    return prod(a[name] for name in ("images", "rows", "width", "channels", "outs"))


def bf16_arithmetic(a: Arguments, target: Target) -> Arithmetic:  # noqa: ARG001
    """Return what multiplies the bfloat16 of a convolution: tiles, or floats that they become."""
    return "bfloat16 tiles" if target.tiles else VECTORS


def f16_arithmetic(a: Arguments, target: Target) -> Arithmetic:  # noqa: ARG001
    """Return what multiplies float16: halves, or floats that they become."""
    return halves_of(target)


def tile_reach(a: Arguments) -> tuple[int, int]:
    """Return the first element that the taps read, and how far all of them read."""
    offsets = a["offsets"].values
    reach = max(offsets) - min(offsets) + a["channels"]
    return min(offsets), _images(a, a["in_row"], a["in_pixel"]) + reach


# --------------------------------------------------------------------------------- f32_winograd


def count_winograd(a: Arguments, lanes: int) -> Features:
    """Count the products at each point, batch by batch, and the vectors that are transformed."""
    tiles = _winograd_tiles(a)
    points = a["points_y"] * a["points_x"]
    vectors = ceil(a["outs"] / lanes)
    found: Features = {}
    for count, times in count_parts(tiles, a["batch"]):
        parts = count_tiles(count, vectors, a["tile_pixels"], a["tile_vectors"])
        for name, value in count_products(parts, a["channels"], points * times).items():
            found[name] = found.get(name, 0) + value
    inputs = tiles * points * ceil(a["channels"] / lanes)
    sides = a["points_y"] + a["points_x"]  # multiply-adds of an element, down and across
    return {
        **found,
        "inputs": float(inputs),
        "outputs": float(tiles * points * vectors),
        "transforms": float((inputs + tiles * points * vectors) * sides),
    }


def winograd_again(a: Arguments, lanes: int) -> tuple[int, int]:
    """Return the weights that each batch but the first reads once more, and those in between."""
    points = a["points_y"] * a["points_x"]
    weights = points * a["channels"] * ceil(a["outs"] / lanes) * lanes
    return (ceil(_winograd_tiles(a) / a["batch"]) - 1) * weights, weights


def winograd_products(a: Arguments) -> int:
    """Return the multiply-adds between the transforms, fewer than the layer is counted with."""
    return _winograd_tiles(a) * a["points_y"] * a["points_x"] * a["channels"] * a["outs"]


def winograd_reach(a: Arguments) -> tuple[int, int]:
    """Return the first float that the first tile reads, and how far all of them read."""
    reach = (a["taps_y"] - 1) * a["in_row"] + (a["taps_x"] - 1) * a["in_pixel"]
    return 0, _images(a, a["in_row"], a["in_pixel"]) + reach + a["channels"]


def _winograd_tiles(a: Arguments) -> int:
    """Return how many tiles of outputs there are."""
    down, across = a["points_y"] - a["taps_y"] + 1, a["points_x"] - a["taps_x"] + 1
    return a["images"] * ceil(a["rows"] / down) * ceil(a["width"] / across)


# -------------------------------------------------------------------------------- f32_depthwise


def count_depthwise(a: Arguments, lanes: int) -> Features:
    """Count the multiply-adds of a depthwise convolution, and what its tiles load."""
    vectors = a["images"] * ceil(a["channels"] / lanes)
    taps = a["R"] * a["S"]
    wide = 8 if a["width"] % 8 == 0 and a["width"] % 7 else 7  # as kernels/depthwise.h has it
    loads, tiles = count_tile_loads(a, 2 if lanes == 16 else 1, wide)
    steps = float(vectors * a["rows"] * a["width"] * taps)
    return {
        "steps": steps,
        "wide steps": steps if taps > 9 else 0.0,  # whose weights are not kept in registers
        "loads": float(vectors * loads),
        "part loads": float(a["images"] * loads) if a["channels"] % lanes else 0.0,
        "taps": float(vectors * tiles * taps),
        "tiles": float(vectors * tiles),
    }


def depthwise_products(a: Arguments) -> int:
    """Return the multiply-adds of a depthwise convolution."""
    return prod(a[name] for name in ("images", "rows", "width", "R", "S", "channels"))


def depthwise_reach(a: Arguments) -> tuple[int, int]:
    """Return the first float that is read, and how far all of them are read."""
    reach = (a["R"] - 1) * a["dilation_y"] * a["in_row"]
    reach += (a["S"] - 1) * a["dilation_x"] * a["in_pixel"]
    row, pixel = a["stride_y"] * a["in_row"], a["stride_x"] * a["in_pixel"]
    return 0, _images(a, row, pixel) + reach + a["channels"]


# ------------------------------------------------------------------------------------- of bytes


def quantized_conv_products(a: Arguments) -> int:
    """Return the multiply-adds of a convolution of bytes."""
    return prod(a[name] for name in ("images", "rows", "width", "taps", "channels", "outs"))


def quantized_conv_arithmetic(a: Arguments, target: Target) -> Arithmetic:
    """Return what multiplies the bytes of a convolution."""
    return "int8 tiles" if a["tiles"] and target.tiles else bytes_of(target)


def quantized_depthwise_arithmetic(a: Arguments, target: Target) -> Arithmetic:
    """Return what multiplies the bytes of a depthwise convolution, as its kernel has it.

    Kernels that are too large to be woven, and CPUs that weave nothing, multiply floats.
    """
    woven = (
        target.architecture == "x86_64" and a["dilation_y"] == a["dilation_x"] == 1
        and max(a["R"], a["S"]) <= 7 and a["stride_x"] <= min(2, a["S"])
    )  # fmt: skip
    return bytes_of(target) if woven else VECTORS


# ----------------------------------------------------------------------------- moving elements


def count_border(a: Arguments, lanes: int) -> Features:  # noqa: ARG001
    """Count the elements of the border, and the runs of them."""
    line = a["left"] + a["width"] + a["right"]
    pixels = (a["top"] + a["bottom"]) * line + a["rows"] * (a["left"] + a["right"])
    return {"elements": float(a["images"] * pixels * a["channels"]), "runs": float(a["rows"])}


def count_copy(a: Arguments, lanes: int) -> Features:  # noqa: ARG001
    """Count the elements, those that are transposed apart from those copied in runs."""
    elements = prod(a["n"])
    packed = a["x_stride"][-1] == a["y_stride"][-1] == 1 or elements == 1
    return {
        "elements" if packed else "transposed": float(elements),
        "runs": float(prod(a["n"][:-1])),
    }


# ----------------------------------------------------------------------------- what they share


Tiles = list[tuple[int, int, int]]  # pixels, vectors, how many


def count_tiles(width: int, vectors: int, tile_pixels: int, tile_vectors: int) -> Tiles:
    """Return the register tiles that cover `width` pixels of a number of vectors of outputs."""
    return [
        (pixels, wide, n * m)
        for pixels, n in count_parts(width, tile_pixels)
        for wide, m in count_parts(vectors, tile_vectors)
    ]


def count_products(tiles: Tiles, depth: int, times: int) -> Features:
    """Count the steps, starts and stores of register tiles that sum up `depth` products.

    A step is pixels x vectors multiply-adds, two a cycle, or as many loads, but at least the 4
    cycles that a multiply-add waits for the one before it.
    """
    return {
        "steps": float(times * depth * sum(n * max(p * v, p + v, 8) for p, v, n in tiles)),
        "tiles": float(times * sum(n for _, _, n in tiles)),
        "stores": float(times * sum(n * p * v for p, v, n in tiles)),
    }


def _images(a: Arguments, row: int, pixel: int) -> int:
    """Return the floats from the first pixel that is read for an output to the last such pixel."""
    images = (a["images"] - 1) * a["in_image"]
    return images + (a["rows"] - 1) * row + (a["width"] - 1) * pixel


def count_tile_loads(a: Arguments, high: int, wide: int) -> tuple[int, int]:
    """Return the pixels that tiles of up to `high` x `wide` outputs load, and how many these are.

    The tiles are those of an image of a convolution whose channels are apart.
    """
    rows, columns = count_parts(a["rows"], high), count_parts(a["width"], wide)
    loads = sum(
        n * m * ((y - 1) * a["stride_y"] + a["R"]) * ((x - 1) * a["stride_x"] + a["S"])
        for y, n in rows
        for x, m in columns
    )
    return loads, sum(n for _, n in rows) * sum(m for _, m in columns)


def count_parts(size: int, part: int) -> list[tuple[int, int]]:
    """Return (part, how many), and the remainder if there is one."""
    count, rest = divmod(size, part)
    return [(part, count), (rest, 1)] if rest else [(part, count)]
