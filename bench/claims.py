"""Measure what docs/performance.md and docs/compile.md claim beside the table of networks.

    python bench/claims.py theory       multiply-adds saved against time saved, ResNet-50 directly
    python bench/claims.py shares       of the multiply-add peak after a rest, and beside the runs
    python bench/claims.py threads      two threads, beside two copies of the network at once
    python bench/claims.py start        first output after opening, spread of runs, machine code
    python bench/claims.py memory       arenas: nothing streamed, for speed, for memory; a peer's
    python bench/claims.py predicted    predicted latency against measured, --precision int8
    python bench/claims.py prepare      nothing: it compiles what `theory` and `predicted` run

Times that are compared take turns, medians over rounds; on a machine that does nothing else. What
was prepared, at any time and beside anything, is measured in minutes.
"""

import argparse
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

import depthwise as dw
from depthwise import hardware
from depthwise.bench.exported_model import Question, write_case
from depthwise.bench.peak import measure_peak
from depthwise.bench.peers import INPUT
from depthwise.compiler.autotune.step_timer import build_clocked
from depthwise.compiler.codegen.emit import emit_units
from depthwise.compiler.lowering.algorithms import direct_only
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.pipeline import UNITS, choose_plan, rewrite
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.families import find_network
from depthwise.graph import Graph, capture
from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.choice import choose_core
from depthwise.hardware.probes import Probes
from depthwise.latency.calibration_networks import calibration_plan, networks_in
from depthwise.latency.precisions import NARROW, rewritten_in
from depthwise.latency.predict import known_kernels, predict
from depthwise.latency.timing import beside_peak, middle_half, time_kernels
from depthwise.runtime.library import Code, Library, align_copy, aligned_bytes
from depthwise.runtime.target import find_target, native_for
from depthwise.toolchain.build import compile_c

MOBILE = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "ghostnet")
ROUNDS, SECONDS = 15, 0.05  # turns, and how long each lasts at least
REST = 0.2  # seconds in which a core's clock recovers
RUNS, COPIES = 1000, 20
RUNS_OF_PEER = 5  # its second run plans memory again

Run = Callable[[], object]


def build(network: str) -> nn.Module:
    """Return a network with the same random weights every time."""
    torch.manual_seed(0)
    return dw.create_model(network).eval()


def shape_of(network: str) -> tuple[int, int, int, int]:
    """Return the shape of one image."""
    side = find_network(network).resolution
    return (1, 3, side, side)


def graph_of(network: str) -> Graph:
    """Return the rewritten graph of a network."""
    return rewrite(capture(build(network), shape_of(network)))


def image(network: str) -> np.ndarray:
    """Return one image of noise."""
    return np.random.default_rng(0).standard_normal(shape_of(network), np.float32)


def compiled(plan: Plan) -> Path:
    """Return a plan as our libraries are built, out of the cache where it is there."""
    return compile_c(emit_units(plan, UNITS), plan.target)


def runner(plan: Plan, network: str, built: Path | None = None) -> Run:
    """Return what runs a plan once, as it was built, else as our libraries are."""
    code = Code(built or compiled(plan))
    (output,) = plan.graph.outputs
    y = np.empty(plan.graph.type(output.value).shape, np.float32)
    x, weights, arena = image(network), align_copy(plan.weights), aligned_bytes(code.arena_bytes)
    return lambda: code.run(weights, [x], [y], arena)


def by_turns(runs: Mapping[str, Run]) -> dict[str, np.ndarray]:
    """Return the seconds that each takes once, a number a round."""
    times = {}
    for name, run in runs.items():
        run()
        start = time.perf_counter()
        run()
        times[name] = max(1, round(SECONDS / (time.perf_counter() - start)))
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(times[name]):
                run()
            taken[name].append((time.perf_counter() - start) / times[name])
    return {name: np.array(each) for name, each in taken.items()}


BASE = "resnet50"


def theory_plans() -> dict[str, Plan]:
    """Return the plans that `theory` compares, of BASE the direct one."""
    here = CompileOptions()
    plans = {name: choose_plan(graph_of(name), here) for name in (BASE, *MOBILE)}
    usual = plans[BASE]
    direct = direct_only(usual.algorithms, usual.constants)
    plans[BASE] = make_plan(usual.graph, usual.target, algorithms=direct, core=here.core)
    return plans


def theory() -> None:
    """Print multiply-adds saved against time saved."""
    plans = theory_plans()
    macs = {name: dw.cost(build(name), shape_of(name)).macs for name in plans}
    taken = by_turns({name: runner(plan, name) for name, plan in plans.items()})
    print(f"{BASE}, directly: {1e3 * np.median(taken[BASE]):.2f} ms")
    for name in MOBILE:
        faster, fewer = np.median(taken[BASE] / taken[name]), macs[BASE] / macs[name]
        print(f"{name:20} {1e3 * np.median(taken[name]):6.3f} ms, {fewer:5.2f}x fewer "
              f"multiply-adds, {faster:5.2f}x faster: {faster / fewer:.2f}")  # fmt: skip


def shares() -> None:
    """Print the share of the peak that networks reach: of a rested core's, and of that beside them.

    A core may lower its clock under what they do, and not under a loop on registers alone.
    """
    probes = Probes(find_target("native"), find_target("native").lanes)
    for name in (*MOBILE, "xception", BASE):
        plan = choose_plan(graph_of(name), CompileOptions())
        run, macs = partial(clock, runner(plan, name)), dw.cost(build(name), shape_of(name)).macs
        rested, usual = [], []
        for _ in range(ROUNDS // 3):
            time.sleep(REST)
            rested.append(measure_peak() / 1e9)
            usual.append(beside_peak(run, probes, 3 * SECONDS))
        runs = middle_half(usual)
        took, flops = float(runs.seconds.mean()), 2e-9 * macs
        peak = float(np.median(rested))
        print(f"{name:20} {1e3 * took:7.3f} ms; rested {peak:.0f} GFLOP/s: "
              f"{flops / took / peak:.2f}; beside {runs.peak:.0f}: "
              f"{flops / took / runs.peak:.2f}", flush=True)  # fmt: skip


def threads() -> None:
    """Print what two threads gain, and what two copies of the network at once would."""
    for name in MOBILE:
        x = image(name)
        one, two = (dw.compile(build(name), shape_of(name), threads=n) for n in (1, 2))
        assert np.array_equal(one(x), two(x))
        taken = by_turns({"one": partial(one, x), "two": partial(two, x), "both": both(one, x)})
        gained = np.median(taken["one"] / taken["two"])
        possible = np.median(2 * COPIES * taken["one"] / taken["both"])
        print(
            f"{name:20} {1e3 * np.median(taken['one']):6.3f} ms on one, "
            f"{1e3 * np.median(taken['two']):6.3f} on two: {gained:.2f}x; "
            f"two copies {possible:.2f}x"
        )


def both(library: Library, x: np.ndarray) -> Run:
    """Return what runs a library COPIES times on each of two threads."""

    def copies() -> None:
        for _ in range(COPIES):
            library(x)

    def run() -> None:
        other = threading.Thread(target=copies)
        other.start()
        copies()
        other.join()

    return run


def start() -> None:
    """Print how soon the first output is there, how even the runs are, and how large the code."""
    for name in ("mobilenet_v2", "mobilenet_v3_small", "resnet50"):
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / name
            dw.compile(build(name), shape_of(name)).save(saved)
            command = [sys.executable, __file__, "open", str(saved)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            print(f"{name:20} {said.strip()}; {machine_code(saved)}")


def machine_code(saved: Path) -> str:
    """Return the size of a saved library's machine code, as binutils have it."""
    if not shutil.which("size"):
        return "machine code: binutils' size is missing"
    command = ["size", str(saved / "libnet.so")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return f"{int(said.splitlines()[1].split()[0]) / 1e3:.0f} KB of machine code and constants"


def open_and_run(saved: Path) -> None:
    """Print the times of one saved library, in a process that has not opened it before."""
    x, y = np.zeros((1, 3, 224, 224), np.float32), np.empty((1, 1000), np.float32)
    began = time.perf_counter()
    library = ctypes.CDLL(str(saved / "libnet.so"))
    library.net_arena_bytes.restype = ctypes.c_size_t
    library.net_run.argtypes = (ctypes.c_void_p,) * 4
    weights = align_copy(np.memmap(saved / "net.weights", np.uint8, mode="r"))
    arena = aligned_bytes(library.net_arena_bytes())
    pointers = [array.ctypes.data for array in (weights, x, y, arena)]
    library.net_run(*pointers)
    first = time.perf_counter() - began
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        library.net_run(*pointers)
        taken.append(time.perf_counter() - began)
    median, late = np.median(taken), np.quantile(taken, 0.99)
    print(f"first output after {1e3 * first:.2f} ms; median {1e3 * median:.3f} ms, "
          f"p99 / median {late / median:.3f}")  # fmt: skip


def memory() -> None:
    """Print arenas in MB, and what ONNX Runtime takes while it runs, where it is installed."""
    here = CompileOptions()
    for name in (*MOBILE, "resnet50"):
        graph = graph_of(name)
        sizes = [
            make_plan(graph, here.chosen, optimize=o, core=here.core).arena.bytes
            for o in (None, "speed", "memory")
        ]
        print(f"{name:20} " + "  ".join(f"{size / 1e6:5.2f}" for size in sizes), end="  ")
        print(peer_memory(name) if find_spec("onnxruntime") else "ONNX Runtime is not installed")


def peer_memory(network: str) -> str:
    """Return what runs of a network take in ONNX Runtime, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        question = Question(network, {}, "", build(network), shape_of(network), untrained=True)
        write_case(question, Path(folder), ("onnx",), threads=1)
        command = [sys.executable, __file__, "grow", folder]
        fresh = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what was freed is not used again
        done = subprocess.run(command, env=fresh, capture_output=True, text=True, check=True)
    return f"ONNX Runtime {done.stdout.strip()}"


def grow(case: Path) -> None:
    """Print how far runs of ONNX Runtime make this process grow: Linux alone tells."""
    from depthwise.bench.peers.onnxruntime import open_network  # noqa: PLC0415  (may be missing)

    opened = open_network(case, 1, FLOAT32.name)
    opened.give(np.load(case / INPUT))
    run = opened.run
    before = status()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at zero
    for _ in range(RUNS_OF_PEER):
        run()
    after = status()
    code = after["RssFile"] - before["RssFile"]
    print(f"{(after['VmHWM'] - before['VmRSS'] - code) / 1e6:5.2f}")


def status() -> dict[str, int]:
    """Return the bytes of memory that the system says this process has."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0].rstrip(":"): 1024 * int(line[1]) for line in lines if line[-1] == "kB"}


def predicted(precision: str = FLOAT32.name) -> None:
    """Print predicted latency against measured, for the clock of the moment."""
    asked = [] if precision == FLOAT32.name else [precision]
    here = time_kernels(hardware.find() or hardware.calibrate(), asked)
    table = known_kernels(here, precision)
    for network in table.networks:
        print(f"{network.name:22} from the others: {100 * network.error:+.1f} %", flush=True)
    probes = Probes(find_target(here.target), here.lanes)
    errors = []
    for name in predicted_networks(precision):
        plan = plan_in(name, precision)
        run = partial(clock, runner(plan, name))
        usual = middle_half([beside_peak(run, probes, ROUNDS * SECONDS)])
        took, gflops = float(usual.seconds.mean()), usual.peak
        said = sum(predict(plan, here, table, gflops))
        errors.append(said / took - 1)
        print(f"{name:22} predicted {1e3 * said:7.3f} ms, measured {1e3 * took:7.3f} "
              f"at {gflops:.0f} GFLOP/s: {100 * errors[-1]:+.1f} %", flush=True)  # fmt: skip
    off = np.abs(errors)
    print(f"off by {100 * off.mean():.1f} % on average, {100 * off.max():.1f} % at most")


def predicted_networks(precision: str) -> Sequence[str]:
    """Return the networks that are predicted: of narrow types those that docs/precision.md has."""
    return dw.list_models() if precision == FLOAT32.name else (*MOBILE, BASE)


def plan_in(network: str, precision: str) -> Plan:
    """Return the plan of a network in a precision, in int8 with ranges that nobody looked at."""
    if precision == FLOAT32.name:
        return choose_plan(graph_of(network), CompileOptions())
    graph = rewritten_in(capture(build(network), shape_of(network)), precision)
    target = native_for(precision)
    return make_plan(graph, target, core=choose_core(None, target, native=True))


def prepare(precision: str = FLOAT32.name) -> None:
    """Compile what `theory` and `predicted` run: kept in the cache, where they find it."""
    for plan in theory_plans().values() if precision == FLOAT32.name else ():
        compiled(plan)
    target = native_for(precision)
    for network in networks_in(precision):
        build_clocked((calibration_plan(network, target, precision),))
        print(f"calibration network {network.name}: compiled", flush=True)
    for name in predicted_networks(precision):
        compiled(plan_in(name, precision))
        print(f"{name}: compiled", flush=True)


def clock(run: Run) -> np.ndarray:
    """Run once; return the seconds that it took, as one step."""
    start = time.perf_counter()
    run()
    return np.array([time.perf_counter() - start])


ALONE = {"open": open_and_run, "grow": grow}  # in processes that we start
CLAIMS = {f.__name__: f for f in (theory, shares, threads, start, memory, predicted, prepare)}


def main() -> None:
    """Measure what the command line names."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("claim", choices=[*CLAIMS, *ALONE])
    parser.add_argument("folder", type=Path, nargs="?", help="a library's, or a case of bench's")
    parser.add_argument("--precision", default=FLOAT32.name, choices=(FLOAT32.name, *NARROW))
    given = parser.parse_args()
    if given.claim in ALONE:
        ALONE[given.claim](given.folder)
    elif given.claim in (predicted.__name__, prepare.__name__):
        CLAIMS[given.claim](given.precision)
    else:
        CLAIMS[given.claim]()


if __name__ == "__main__":
    main()
