"""Run each distinct convolution of our networks alone, in cache, and hold it to its gate.

    python tools/kernel_gates.py                          every layer, worst last
    python tools/kernel_gates.py --only mobilenet_v2
    python tools/kernel_gates.py --tiles --only xception  every candidate tile of each layer
    python tools/kernel_gates.py --out gates.json

A layer runs as its network's plan calls it: same tile, strides, places and epilogue. Rows are cut
to a band whose input and output fit the second cache. Percentages are of a multiply-add loop, or
for linear layers of a reading loop over as many bytes, that takes turns with the layer.
"""

import argparse
import ctypes
import json
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

import depthwise as dw
from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.lowering.algorithms import direct_only
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.lowering.packing import Tile, best_tiles
from depthwise.compiler.lowering.views import TensorView
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.graph import Graph, capture, export
from depthwise.hardware.probes import READ_VECTORS, Probes, fma_rate
from depthwise.toolchain.build import compile_c

SIDES = {"xception": 299}
NETWORKS = (
    "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "ghostnet",
    "xception", "resnet50",
)  # fmt: skip
BAND = 512 * 1024  # bytes of a band's input and output
ROUNDS, MOMENT = 7, 1e-3  # turns, seconds of each
STEPS = 20_000  # of the multiply-add loop in a turn

# percent of the multiply-add peak; of the bandwidth for linear
GATES = {
    "pointwise, 64 channels and more": 90, "pointwise, 16 to 63 channels": 75,
    "pointwise, few channels": 0, "depthwise 3x3": 70, "depthwise 3x3 stride 2": 60,
    "depthwise 5x5": 70, "depthwise 5x5 stride 2": 60, "first": 75, "dense": 88, "linear": 80,
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One distinct kernel call, cut to a band, and where it comes from."""

    kind: str
    shape: str
    network: str
    plan: Plan
    step: KernelCall
    macs: int
    weight_floats: int
    tile: str

    @property
    def gate(self) -> int:
        """The percentage that it is to reach."""
        return GATES[self.kind]


@dataclass
class Row:
    """What was measured of a layer: GFLOP/s (GB/s for linear) and percent of the reference."""

    kind: str
    shape: str
    network: str
    tile: str
    rate: float
    percent: float
    gate: int
    microseconds: float
    ratios: list[float] = field(default_factory=list)


def layers(networks: Sequence[str]) -> Iterator[Layer]:
    """Return each distinct convolution of the networks once, in their order."""
    seen = set()
    for network in networks:
        graph, here = read_graph(network), CompileOptions()
        plan = make_plan(graph, here.chosen, optimize=None, core=here.core)
        direct = direct_only(plan.algorithms, plan.constants)
        plan = make_plan(graph, here.chosen, optimize=None, algorithms=direct, core=here.core)
        for step in plan.steps:
            if step.kernel not in ("f32_conv", "f32_depthwise"):
                continue
            key = (
                step.kernel,
                *(a for a in step.arguments.values() if not isinstance(a, TensorView)),
            )
            if key not in seen:
                seen.add(key)
                yield make_layer(network, plan, step)


def read_graph(network: str) -> Graph:
    """Return a network's graph as its plan is made from."""
    torch.manual_seed(0)
    side = SIDES.get(network, 224)
    return rewrite(capture(export(dw.create_model(network).eval(), [(1, 3, side, side)])))


def make_layer(network: str, plan: Plan, step: KernelCall) -> Layer:
    """Return a call cut to a band of rows, described."""
    a = dict(step.arguments)
    height, width = (1, 1, *plan.views[step.name].shape)[-2:]
    if len(plan.views[step.name].shape) < 4:
        height, width = 1, 1
    rows = band_rows(a, width)
    flat = a["width"] != width and a["rows"] == 1  # rows that follow each other without a gap
    cut = {"width": min(a["width"], rows * width)} if flat else {"rows": min(a["rows"], rows)}
    a |= cut
    step = step.with_arguments(**cut)
    pixels = a["images"] * a["rows"] * a["width"]
    if step.kernel == "f32_conv":
        kind = conv_kind(a, pixels)
        per_pixel = a["taps"] * a["channels"] * a["outs"] * a["groups"]
        shape = f"{height}x{width} {a['channels']}->{a['outs']}"
        tile = f"{a['tile_pixels']}x{a['tile_vectors']}"
    else:
        kind = f"depthwise {a['R']}x{a['S']}" + (" stride 2" if a["stride_y"] == 2 else "")
        per_pixel = a["channels"] * a["R"] * a["S"]
        shape, tile = f"{height}x{width}x{a['channels']}", ""
    if kind == "dense":
        shape += f" {a['taps']} taps"
    floats = per_pixel
    return Layer(kind, shape, network, plan, step, pixels * per_pixel, floats, tile)


def conv_kind(a: dict, pixels: int) -> str:
    """Return which gate a call of f32_conv is held to."""
    if a["taps"] > 1:
        return "first" if a["channels"] < 4 else "dense"
    if pixels == 1:
        return "linear"
    if a["channels"] >= 64:
        return "pointwise, 64 channels and more"
    enough = a["channels"] >= 16
    return "pointwise, 16 to 63 channels" if enough else "pointwise, few channels"


def band_rows(a: dict, width: int) -> int:
    """Return how many output rows fit BAND with what they read."""
    down = a.get("stride_y", 1)
    in_row = a["in_row"] * down if a["in_row"] else a["in_pixel"] * width
    out_row = a["out_row"] if a["rows"] > 1 else a["out_pixel"] * width
    return max(2, BAND // (4 * (in_row + out_row)))


def retiled(layer: Layer, tile: Tile) -> Layer:
    """Return the same with another tile; packed weights are of one size for all of a depth."""
    step = layer.step.with_arguments(tile_pixels=tile[0], tile_vectors=tile[1])
    return replace(layer, step=step, tile=f"{tile[0]}x{tile[1]}")


def candidates(layer: Layer) -> list[Layer]:
    """Return the layer with each candidate tile, the default first."""
    if layer.step.kernel != "f32_conv" or layer.kind == "linear":
        return [layer]
    a, target = layer.step.arguments, layer.plan.target
    found = best_tiles(target.lanes, target.registers, a["width"], a["outs"], a["tile_depth"])
    return [retiled(layer, tile) for tile in found[:4]]


def program(layers: Sequence[Layer]) -> list[str]:
    """Return one translation unit a layer, which can repeat its call."""
    units = []
    for number, layer in enumerate(layers):
        text = emit(replace(layer.plan, regions=(((layer.step,),),)))
        repeat = re.sub(r"^int net_run\((.*)\) \{$", r"\1", text, flags=re.M)
        head = re.search(r"^int net_run\((.*)\) \{$", text, re.M)
        assert head, repeat
        names = ", ".join(part.split()[-1].lstrip("*") for part in head[1].split(","))
        text += f"void net_repeat(int times, {head[1]});\n"
        text += f"void net_repeat(int times, {head[1]}) {{\n"
        text += f"    for (int i = 0; i < times; i++) net_run({names});\n}}\n"
        units.append(re.sub(r"\bnet_(\w+)", rf"layer{number}_\1", text))
    return units


class Bench:
    """The compiled layers and the memory that they work on."""

    def __init__(self, layers: Sequence[Layer]):
        target = layers[0].plan.target
        self.code = ctypes.CDLL(str(compile_c(program(layers), target)))
        self.probes = Probes(target, target.lanes)
        random = np.random.default_rng(0)
        size = max(layer.plan.arena.bytes for layer in layers) + 4096
        size = max(size, *(layer.plan.weights.nbytes for layer in layers))
        self.memory = [self.aligned(random.random(size // 4 + 4096, np.float32)) for _ in range(4)]
        self.slots = [ctypes.c_void_p(array.ctypes.data) for array in self.memory]

    def aligned(self, array: np.ndarray) -> np.ndarray:
        """Return an array from its first address that divides by a page's size."""
        return array[-array.ctypes.data % 4096 // 4 :]

    def call(self, number: int, times: int) -> float:
        """Return the seconds of a number of runs of a layer."""
        repeat = getattr(self.code, f"layer{number}_repeat")
        start = time.perf_counter()
        repeat(times, *self.slots)
        return time.perf_counter() - start

    def read(self, floats: int, passes: int) -> float:
        """Return the floats a second that a loop reads, over and over, where weights lie."""
        span = self.memory[0][: floats - floats % (READ_VECTORS * self.probes.lanes)]
        return span.size * passes / self.probes.read([span.view(np.uint8)], passes)

    def measure(self, number: int, layer: Layer) -> Row:
        """Return the median over turns of a layer's rate against the reference's."""
        once = min(self.call(number, 3) for _ in range(3)) / 3
        times = max(1, round(MOMENT / once))
        linear = layer.kind == "linear"
        work = layer.weight_floats if linear else layer.macs
        rates, ratios = [], []
        for _ in range(ROUNDS):
            reference = self.read(work, times) if linear else fma_rate(self.probes, STEPS) / 2
            rates.append(work * times / self.call(number, times))
            ratios.append(rates[-1] / reference)
        rate = statistics.median(rates)
        return Row(
            layer.kind, layer.shape, layer.network, layer.tile, rate * (4 if linear else 2) / 1e9,
            100 * statistics.median(ratios), layer.gate, work / rate * 1e6, ratios,
        )  # fmt: skip


def show(rows: Sequence[Row]) -> None:
    """Print the rows of each kind, the farthest below its gate last."""
    for kind, gate in GATES.items():
        mine = sorted((row for row in rows if row.kind == kind), key=lambda row: -row.percent)
        if not mine:
            continue
        met = sum(row.percent >= gate for row in mine)
        print(f"\n{kind}: gate {gate} %, {met} of {len(mine)} reach it")
        for row in mine:
            mark = " " if row.percent >= gate else "*"
            print(
                f"  {mark} {row.percent:5.1f} %  {row.rate:6.1f}  {row.microseconds:8.1f} us  "
                f"{row.shape:28} {row.tile:5} {row.network}"
            )


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--kind", default="", help="layers whose kind starts so")
    parser.add_argument("--tiles", action="store_true", help="every candidate tile of each layer")
    parser.add_argument("--build", action="store_true", help="compile and stop")
    parser.add_argument("--out", type=Path, help="write the rows there")
    options = parser.parse_args()
    chosen = [layer for layer in layers(options.only) if layer.kind.startswith(options.kind)]
    if options.tiles:
        chosen = [tried for layer in chosen for tried in candidates(layer)]
    bench = Bench(chosen)
    if options.build:
        return
    fma_rate(bench.probes, 100 * STEPS)  # warm
    rows = [bench.measure(number, layer) for number, layer in enumerate(chosen)]
    show(rows)
    if options.out:
        options.out.write_text(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
