"""The features of a step, which its time is linear in: calls, tiles, loads, bytes from each cache.

The time of a step is the sum of its features times their coefficients, which are in seconds and
fitted to measurements.
"""

from collections.abc import Callable
from math import ceil, prod

from depthwise.compiler.lowering.views import FLOAT, KernelCall, TensorView
from depthwise.compiler.plan import Plan
from depthwise.hardware.record import LEVELS, Level, Machine
from depthwise.latency.cache_model import numbers_of, sources

Features = dict[str, float]

VERSION = (
    1  # of what the features mean: raise it where that changes, so that kernels are timed again
)


def features_of(plan: Plan, machine: Machine) -> list[Features]:
    """Return the features of every step of a plan on a machine, in order."""
    found = []
    for step, moved in zip(plan.steps, sources(plan, machine.caches), strict=True):
        count = COUNTS.get(step.kernel, _plain)
        own = count(step, plan.target.lanes)
        bytes_ = _again(step, plan.target.lanes, machine) | _moved(moved)
        waiting = _waiting(own, bytes_, plan.target.lanes, machine)
        found.append({"calls": 1.0, **own, **bytes_, "waiting": waiting})
    return found


def _moved(moved: dict[tuple[str, Level], int]) -> Features:
    """Name the bytes that come from beyond the first cache."""
    return {
        f"{role} {level}": float(size) for (role, level), size in moved.items() if level != "L1"
    }


def _again(step: KernelCall, lanes: int, machine: Machine) -> Features:
    """Count the bytes of weights that a convolution reads again for each tile after the first."""
    if step.kernel != "f32_conv":
        return {}
    a = numbers_of(step)
    tiles = a["images"] * a["rows"] * ceil(a["width"] / a["tile_pixels"])
    depth = a["tile_depth"]
    vectors = ceil(a["outs"] * depth / lanes)
    weights = FLOAT * a["taps"] * a["channels"] // depth * vectors * lanes
    panel = weights * min(a["tile_vectors"], vectors) // vectors
    level = machine.level(panel if a["panel_outer"] else weights)
    size = float((tiles - 1) * weights * a["groups"])
    return {f"again {level}": size} if size and level != "L1" else {}


def _waiting(own: Features, moved: Features, lanes: int, machine: Machine) -> float:
    """Return by how many seconds a step reads for longer than it computes, at the machine's rates.

    Reading and computing overlap, as in a roofline of one step: 0 where it computes for longer.
    """
    reading = sum(
        1e-9 * size / machine.gigabytes(level)
        for name, size in moved.items()
        for level in LEVELS
        if name.endswith(level) and not name.startswith("written")
    )
    return max(0.0, reading - 2e-9 * lanes * own.get("steps", 0.0) / machine.gflops)


def _conv(step: KernelCall, lanes: int) -> Features:
    a = numbers_of(step)
    rows = a["images"] * a["rows"] * a["groups"]
    depth = a["tile_depth"]
    vectors = ceil(a["outs"] * depth / lanes)
    tiles = _tiles(a["width"], vectors, a["tile_pixels"], a["tile_vectors"])
    found = _products(tiles, a["taps"] * a["channels"] // depth, rows)
    return {**found, "taps": found["tiles"] * a["taps"]}


def _winograd(step: KernelCall, lanes: int) -> Features:
    """Count the products at each point, batch by batch, and the vectors that are transformed."""
    a = numbers_of(step)
    down, across = a["points_y"] - a["taps_y"] + 1, a["points_x"] - a["taps_x"] + 1
    tiles = a["images"] * ceil(a["rows"] / down) * ceil(a["width"] / across)
    points = a["points_y"] * a["points_x"]
    vectors = ceil(a["outs"] / lanes)
    found: Features = {}
    for count, times in _parts(tiles, a["batch"]):
        parts = _tiles(count, vectors, a["tile_pixels"], a["tile_vectors"])
        for name, value in _products(parts, a["channels"], points * times).items():
            found[name] = found.get(name, 0) + value
    batches = ceil(tiles / a["batch"])
    inputs = tiles * points * ceil(a["channels"] / lanes)
    sides = a["points_y"] + a["points_x"]  # multiply-adds of an element, down and across
    return {
        **found,
        "inputs": float(inputs),
        "outputs": float(tiles * points * vectors),
        "transforms": float((inputs + tiles * points * vectors) * sides),
        "weights again": float(FLOAT * (batches - 1) * points * a["channels"] * vectors * lanes),
    }


Tiles = list[tuple[int, int, int]]  # pixels, vectors, how many


def _tiles(width: int, vectors: int, tile_pixels: int, tile_vectors: int) -> Tiles:
    """Return the register tiles that cover `width` pixels of a number of vectors of outputs."""
    return [
        (pixels, wide, n * m)
        for pixels, n in _parts(width, tile_pixels)
        for wide, m in _parts(vectors, tile_vectors)
    ]


def _products(tiles: Tiles, depth: int, times: int) -> Features:
    """Count the steps, starts and stores of register tiles that sum up `depth` products.

    A step is pixels x vectors multiply-adds, two a cycle, or as many loads, but at least the 4
    cycles that a multiply-add waits for the one before it.
    """
    return {
        "steps": float(times * depth * sum(n * max(p * v, p + v, 8) for p, v, n in tiles)),
        "tiles": float(times * sum(n for _, _, n in tiles)),
        "stores": float(times * sum(n * p * v for p, v, n in tiles)),
    }


def _depthwise(step: KernelCall, lanes: int) -> Features:
    a = numbers_of(step)
    vectors = a["images"] * ceil(a["channels"] / lanes)
    taps = a["R"] * a["S"]
    wide = 8 if a["width"] % 8 == 0 and a["width"] % 7 else 7  # as kernels/depthwise.h has it
    rows, columns = _parts(a["rows"], 2 if lanes == 16 else 1), _parts(a["width"], wide)
    loads = sum(
        n * m * ((y - 1) * a["stride_y"] + a["R"]) * ((x - 1) * a["stride_x"] + a["S"])
        for y, n in rows
        for x, m in columns
    )
    tiles = sum(n for _, n in rows) * sum(m for _, m in columns)
    steps = float(vectors * a["rows"] * a["width"] * taps)
    return {
        "steps": steps,
        "wide steps": steps if taps > 9 else 0.0,  # whose weights are not kept in registers
        "loads": float(vectors * loads),
        "part loads": float(a["images"] * loads) if a["channels"] % lanes else 0.0,
        "taps": float(vectors * tiles * taps),
        "tiles": float(vectors * tiles),
    }


def _border(step: KernelCall, lanes: int) -> Features:  # noqa: ARG001
    a = numbers_of(step)
    line = a["left"] + a["width"] + a["right"]
    pixels = (a["top"] + a["bottom"]) * line + a["rows"] * (a["left"] + a["right"])
    return {"elements": float(a["images"] * pixels * a["channels"]), "runs": float(a["rows"])}


def _copy(step: KernelCall, lanes: int) -> Features:  # noqa: ARG001
    """Count the elements, those that are transposed apart from those copied in runs."""
    a = numbers_of(step)
    sizes = [a[f"n{i}"] for i in range(6)]
    packed = a["x5"] == a["y5"] == 1 or prod(sizes) == 1
    return {
        "elements" if packed else "transposed": float(prod(sizes)),
        "runs": float(prod(sizes[:5])),
    }


def _plain(step: KernelCall, lanes: int) -> Features:  # noqa: ARG001
    """Count the elements written, and those under the windows that they look through."""
    a = numbers_of(step)
    places = [value for value in a.values() if isinstance(value, TensorView)]
    written = prod(places[-1].shape)
    window = a.get("kernel_y", 1) * a.get("kernel_x", 1)
    read = max((prod(place.shape) for place in places), default=0)
    return {"elements": float(written), "windows": float(max(written * window, read))}


def _parts(size: int, part: int) -> list[tuple[int, int]]:
    """Return (part, how many), and the remainder if there is one."""
    count, rest = divmod(size, part)
    return [(part, count), (rest, 1)] if rest else [(part, count)]


COUNTS: dict[str, Callable[[KernelCall, int], Features]] = {
    "f32_conv": _conv,
    "f32_winograd": _winograd,
    "f32_depthwise": _depthwise,
    "f32_fill_border": _border,
    "f32_copy": _copy,
}


def common_features(features: Features) -> Features:
    """Return the features that steps of any kernel have."""
    return {name: value for name, value in features.items() if name.split()[0] in COMMON}


COMMON = {"calls", "elements", "windows", "read", "written", "weights", "waiting"}
