"""The kernel table: what each kernel's work costs on this machine, found from timed steps."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from statistics import median

import numpy as np
import torch

from depthwise.compiler.autotune.step_timer import Clocked, build_clocked
from depthwise.compiler.kernels import KERNELS
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.compiler.work import Quantities
from depthwise.graph import capture
from depthwise.hardware.calibration import calibrate, keep
from depthwise.hardware.load import Watch
from depthwise.hardware.probes import Probes, fma_rate
from depthwise.hardware.record import LEVELS, OTHERS, KernelPrices, KernelTable, Machine
from depthwise.latency.calibration_networks import SAMPLES, Sample
from depthwise.latency.features import plain, quantities
from depthwise.latency.least_squares import bounded_least_squares
from depthwise.progress import track
from depthwise.runtime.target import Target, find_target

SECONDS = 1.2  # that each sample runs
# Times that its weights and arena are allocated again: where they lie in it decides what stays in
# a shared cache. The same layer took 145 us in one place and 181 us in another.
PLACES = 3
FRESH = 3600  # seconds, of a calibration
TRIES = 3  # of a sample's times, where others are at work
STEPS = 200_000  # of the loop that measures the peak beside them: 7 ms at 280 GFLOP/s
TICK = 3e-7  # seconds: errors of shorter steps count as if they were so long
TIGHT = 24  # times as long as the machine reads a byte: what a price of one may be
HINT = 0.1  # of a step's weight: how much its usual price counts

Timed = tuple[str, Quantities, float]  # kernel, quantities, seconds


def time_kernels(machine: Machine) -> Machine:
    """Time the steps of sample networks, and keep the machine with a kernel table; a minute.

    A calibration that is not of this hour is made again first, for prices are told beside its
    rates. What was timed while other programs ran is not kept: `disturbed` says so. Raises
    BuildError where there is no C compiler or the cache cannot be written.
    """
    here = machine if machine.seconds_old < FRESH else calibrate()
    target = find_target("native")
    probes = Probes(target, target.lanes)
    rows: list[Timed] = []
    reasons = [here.disturbed]
    doing = f"timing our kernels in {len(SAMPLES)} networks"
    for sample in track(SAMPLES, doing, pace="kernels"):
        found, disturbed = _time_quietly(sample_plan(sample, target), here, probes)
        rows += found
        reasons.append(disturbed)
    disturbed = next(filter(None, reasons), "")
    found = here.model_copy(update={"kernels": make_table(here, rows), "disturbed": disturbed})
    if not disturbed:
        keep(found)
    return found


def _time_quietly(plan: Plan, machine: Machine, probes: Probes) -> tuple[list[Timed], str]:
    """Return each step of a plan with its time, and what disturbed it, after TRIES at most."""
    (clocked,) = build_clocked((plan,))
    disturbed = ""
    found: list[Timed] = []
    for _ in range(TRIES):
        watch = Watch()
        found = timed(clocked, machine, probes)
        if not (disturbed := watch.load().disturbed):
            break
    return found, disturbed


def sample_plan(sample: Sample, target: Target) -> Plan:
    """Return the plan of a sample network with random weights, always the same."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        net = sample.build().eval()
    return make_plan(rewrite(capture(net, sample.shape)), target)


def timed(clocked: Clocked, machine: Machine, probes: Probes) -> list[Timed]:
    """Return each step of a plan with its time, as it were at the machine's best GFLOP/s.

    The peak is measured before and after: clocks drift, and other programs come and go. Of several
    places in memory the best counts.
    """
    before = _gflops(probes)
    trials = [clocked.runs(SECONDS / PLACES) for _ in range(PLACES)]
    medians = np.min([np.median(runs, axis=0) for runs in trials], axis=0)
    share = (before + _gflops(probes)) / 2 / machine.gflops
    plan = clocked.plan
    return by_layer(plan.steps, quantities(plan, machine), (medians * share).tolist())


def by_layer(
    steps: Sequence[KernelCall], found: Sequence[Quantities], seconds: Sequence[float]
) -> list[Timed]:
    """Sum up the steps of each layer that call the same kernel: the bands that it is done in."""
    sums: dict[tuple[str, str], Timed] = {}
    for step, own, time in zip(steps, found, seconds, strict=True):
        key = (step.name, step.kernel)
        _, before, earlier = sums.get(key, (step.kernel, {}, 0.0))
        names = {**before, **own}
        total = {name: before.get(name, 0.0) + own.get(name, 0.0) for name in names}
        sums[key] = (step.kernel, total, earlier + time)
    return list(sums.values())


def _gflops(probes: Probes) -> float:
    return median(fma_rate(probes, STEPS) for _ in range(5)) / 1e9


def make_table(machine: Machine, rows: Sequence[Timed]) -> KernelTable:
    """Find the prices of each kernel, and those of others, from timed steps."""
    kernels = {kernel: [row for row in rows if row[0] == kernel] for kernel, *_ in rows}
    others = [
        (OTHERS, plain(found), time) for name, found, time in rows if KERNELS[name].count is None
    ]
    found = [_prices(machine, name, own) for name, own in (*kernels.items(), (OTHERS, others))]
    return KernelTable(
        code=code_digest(), calibrated=machine.date, gflops=machine.gflops, kernels=tuple(found)
    )


def _prices(machine: Machine, kernel: str, rows: Sequence[Timed]) -> KernelPrices:
    """Fit prices to the relative errors of a kernel's steps."""
    names = sorted({name for _, found, _ in rows for name in found})
    counts = np.array([[found.get(name, 0.0) for name in names] for _, found, _ in rows])
    times = np.array([time for *_, time in rows])
    weights = 1 / np.maximum(times, TICK)
    usual = np.array([_usual(machine, name) for name in names])
    known = np.diag(HINT / usual), np.where(np.isfinite(usual), HINT, 0.0)
    prices = bounded_least_squares(
        np.concatenate([counts * weights[:, None], known[0]]),
        np.concatenate([times * weights, known[1]]),
        TIGHT * usual,
    )
    errors = np.abs(counts @ prices - times) * weights
    return KernelPrices(
        kernel=kernel, steps=len(rows), error=float(np.median(errors)),
        prices={name: float(price) for name, price in zip(names, prices, strict=True) if price},
    )  # fmt: skip


def _usual(machine: Machine, name: str) -> float:
    """Return what a byte from a level usually costs: reading it there; infinity for other things.

    Where no step tells a price, as few read from there, it is this one.
    """
    for level in LEVELS:
        if name.endswith(level):
            return 1e-9 / machine.gigabytes(level)
    return np.inf


def is_current(machine: Machine) -> bool:
    """Tell whether the kernels that plans call today were timed, beside the same calibration."""
    table = machine.kernels
    if table is None:
        return False
    return table.code == code_digest() and table.calibrated == machine.date


@cache
def code_digest() -> str:
    """Return a digest of all that decides what runs, and what is counted of it."""
    package = files("depthwise")
    texts = [text for folder in ("kernels", "compiler") for text in _texts(package / folder)]
    texts += [(package / "latency" / f"{name}.py").read_text("utf-8") for name in OWN]
    return hashlib.sha256("\0".join(sorted(texts)).encode()).hexdigest()[:32]


OWN = ("calibration_networks", "features", "cache_model", "fit", "least_squares")


def _texts(folder: Traversable) -> Iterable[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _texts(entry)
        elif entry.name.endswith((".py", ".h", ".c")):
            yield entry.read_text(encoding="utf-8")
