"""Small networks in reduced precisions, on many inputs: the simulator's bits on every kind of CPU.

    python tests/same_bits.py --inputs 10000
    python tests/same_bits.py --precision bfloat16 --inputs 500 --networks mobilenet_v2,ghostnet
    python tests/same_bits.py --images FOLDER --targets x86-64-amx,aarch64

Each network is compiled as a library is, for each target: this machine runs those of its own, qemu
those of ARM and wasmtime WebAssembly. Inputs are random images of several sizes of numbers, those
of a quarter with NaN and infinities in them in int8, or photographs.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from foreign import WasmNet
from narrow_networks import Block
from net_program import NetProgram
from PIL import Image
from precisions import Case, Reduced, in_precision
from quantised_networks import EveryKernel
from test_compile import settle
from test_networks import beginning
from torch import nn

from depthwise.compiler.assemble import UNITS
from depthwise.compiler.codegen.emit import emit_units
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.pipeline import choose_plan
from depthwise.compiler.plan import Plan
from depthwise.families import construct
from depthwise.runtime.library import Code, align_copy, aligned_bytes
from depthwise.runtime.target import OPTIMISE, Target
from depthwise.toolchain.build import compile_c, find_compiler

Run = Callable[[np.ndarray], np.ndarray]  # images (count, 3, side, side) -> outputs (count, all)

TARGETS = {
    "int8": (
        "x86-64-amx", "x86-64-vnni", "x86-64-avx-vnni", "x86-64-v4", "x86-64-v3", "x86-64-v2",
        "portable", "aarch64", "wasm32",
    ),
    "bfloat16": (
        "x86-64-amx", "x86-64-v4", "x86-64-v3", "x86-64-v2", "portable", "aarch64", "wasm32",
    ),
    "float16": (
        "x86-64-avx512-fp16", "x86-64-v4", "x86-64-v3", "x86-64-v2", "portable", "aarch64-fp16",
        "aarch64", "wasm32",
    ),
}  # fmt: skip
SIZES = (0.3, 1.0, 1.0, 4.0)  # standard deviations of random images, by turns


@dataclass(frozen=True)
class SmallNetwork:
    """A network whose images are so small that ten thousand of them are soon computed."""

    make: Callable[[], nn.Module]
    side: int = 32


NETWORKS = {
    "mobilenet_v1": SmallNetwork(partial(construct, "mobilenet_v1", width=0.25, num_classes=10)),
    "mobilenet_v2": SmallNetwork(partial(construct, "mobilenet_v2", width=0.35, num_classes=10)),
    "mobilenet_v3_small": SmallNetwork(partial(construct, "mobilenet_v3_small", num_classes=10)),
    "mobilenet_v3_large": SmallNetwork(
        partial(construct, "mobilenet_v3_large", width=0.75, num_classes=10)
    ),
    "ghostnet": SmallNetwork(partial(construct, "ghostnet", width=0.5, num_classes=10)),
    "resnet14_cifar": SmallNetwork(partial(construct, "resnet14_cifar"), 16),
    "resnet20_cifar of ghosts": SmallNetwork(
        partial(construct, "resnet20_cifar", conv="depthwise.layers:GhostModule"), 16
    ),
    "googlenet's beginning": SmallNetwork(partial(beginning, "googlenet_torchvision", 2, 480), 24),
    "resnet50's beginning": SmallNetwork(partial(beginning, "resnet50", 2, 256)),
    "every kernel": SmallNetwork(EveryKernel, 21),
    "block": SmallNetwork(partial(Block, exact=True), 21),
}


def made(name: str, case: Case) -> Reduced:
    """Return a network in a precision; its weights are random, and the same in every run."""
    torch.manual_seed(0)
    net = NETWORKS[name].make().eval()
    settle(net)
    return in_precision(net, [(1, 3, NETWORKS[name].side, NETWORKS[name].side)], case)


# ------------------------------------------------------------------------------------- the inputs


def random_images(count: int, side: int, strange: bool) -> np.ndarray:
    """Return images of noise; with `strange` every fourth has NaN, infinities and huge numbers."""
    draw = np.random.default_rng(11)
    x = draw.standard_normal((count, 3, side, side), np.float32)
    x *= np.resize(np.array(SIZES, np.float32), count)[:, None, None, None]
    if strange:
        none = np.array([np.nan, -np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-42], np.float32)
        for image in x[3::4]:
            places = draw.integers(0, image.size, len(none))
            image.reshape(-1)[places] = none
    return x


def photographs(folder: Path, side: int, most: int) -> np.ndarray:
    """Return the images of a folder, about as a network takes them."""
    endings = (".jpg", ".jpeg", ".png")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings)[:most]
    pixels = [
        np.asarray(Image.open(path).convert("RGB").resize((side, side)), np.float32)
        for path in paths
    ]
    return np.ascontiguousarray((np.stack(pixels).transpose(0, 3, 1, 2) / 255 - 0.45) / 0.225)


# --------------------------------------------------------------------------------- those that run


def compiled(plan: Plan, folder: Path) -> Run:
    """Return what runs a plan, compiled for its target as a library is."""
    target = plan.target
    if target.runner and target.runner.startswith("qemu"):
        return emulated(plan, folder)
    built = compile_c(emit_units(plan, UNITS), target)
    return in_wasmtime(plan, built) if target.runner == "wasmtime" else here(plan, built)


def here(plan: Plan, built: Path) -> Run:
    """Return what runs a plan on this machine."""
    code, weights = Code(built), align_copy(plan.weights)
    arena = aligned_bytes(code.arena_bytes)
    arena[:] = 0xFF  # not a number, wherever it is read before it is written
    shapes = output_shapes(plan)

    def run(images: np.ndarray) -> np.ndarray:
        outputs = [np.empty((len(images), *shape), np.float32) for shape in shapes]
        for index in range(len(images)):
            code.run(weights, [images[index]], [y[index] for y in outputs], arena)
        return np.concatenate([y.reshape(len(images), -1) for y in outputs], 1)

    return run


def emulated(plan: Plan, folder: Path) -> Run:
    """Return what runs a plan under qemu, as a program without a system's libraries."""
    target = plan.target
    zig = find_compiler().command
    flags = (*OPTIMISE, "-target", f"{target.architecture}-linux-musl", f"-mcpu={target.mcpu}")
    program = NetProgram(plan, folder, (*zig, *flags, "-static"), target.runner or "")
    return lambda images: np.stack([np.concatenate(y) for y in program([[x] for x in images])])


def in_wasmtime(plan: Plan, built: Path) -> Run:
    """Return what runs a plan as WebAssembly."""
    (given,) = plan.graph.inputs.values()
    sizes = [4 * int(np.prod(shape)) for shape in output_shapes(plan)]
    net = WasmNet(built, plan.weights.tobytes(), [4 * given.size], sizes)
    return lambda images: np.stack([np.concatenate(net([x])) for x in images])


def output_shapes(plan: Plan) -> list[tuple[int, ...]]:
    """Return the shapes of what a network returns."""
    return [plan.graph.type(output.value).shape for output in plan.graph.outputs]


# ----------------------------------------------------------------------------------- what is held


def plan_for(reduced: Reduced, target: Target) -> Plan:
    """Return the plan that a library for a target has."""
    return choose_plan(reduced.rewritten, CompileOptions(target.name))


def simulated(reduced: Reduced, images: np.ndarray) -> np.ndarray:
    """Return what the simulator gives for each image, flat."""
    return np.stack(
        [np.concatenate([y.reshape(-1) for y in reduced.simulate([x[None]])]) for x in images]
    )


def differing(found: np.ndarray, expected: np.ndarray) -> int:
    """Return for how many images not all bits of the outputs are the same."""
    return int((found.view(np.uint32) != expected.view(np.uint32)).any(1).sum())


def checked(name: str, precision: str, targets: list[str], images: np.ndarray) -> Iterator[str]:
    """Yield, target by target, in how many of the images a network's outputs differ."""
    if not made(name, Case(precision, targets[0])).exact:
        yield f"{name:26} {precision:9} not run: some of its sums are in no order that is defined"
        return
    expected: dict[bool, np.ndarray] = {}
    for target_name in targets:
        case = Case(precision, target_name)
        target, start = case.target, time.monotonic()
        if not target.runs_here and not target.runner:
            yield f"{name:26} {precision:9} {target_name:19} not run: this CPU does not"
            continue
        reduced = made(name, case)
        if target.halves not in expected:
            expected[target.halves] = simulated(reduced, images)
        with tempfile.TemporaryDirectory() as folder:
            found = compiled(plan_for(reduced, target), Path(folder))(images)
        wrong = differing(found, expected[target.halves])
        yield (
            f"{name:26} {precision:9} {target_name:19} {len(images):6} images, {wrong} differ, "
            f"{time.monotonic() - start:.0f} s"
        )


def main() -> None:
    """Check networks; ends with an error where any image's outputs differ."""
    given = parsed()
    wrong = 0
    for name in given.networks.split(",") if given.networks else NETWORKS:
        side = NETWORKS[name].side
        images = (
            photographs(given.images, side, given.inputs)
            if given.images
            else random_images(given.inputs, side, given.precision == "int8")
        )
        targets = given.targets.split(",") if given.targets else list(TARGETS[given.precision])
        for line in checked(name, given.precision, targets, images):
            print(line, flush=True)
            wrong += " images, 0 differ" not in line and " not run" not in line
    raise SystemExit(f"{wrong} libraries give other bits" if wrong else 0)


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=TARGETS, default="int8")
    parser.add_argument("--networks", help="Names, with commas between; else all.")
    parser.add_argument("--targets", help="Names, with commas between; else all.")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--images", type=Path, help="A folder of photographs, in place of noise.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
