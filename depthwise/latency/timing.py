"""The calibration networks timed step by step on this machine, for the kernel table."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from depthwise.compiler.autotune.step_timer import LEAST_RUNS, Clocked, build_clocked
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.plan import Plan
from depthwise.compiler.work import Features
from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.caches import sizes_held
from depthwise.hardware.calibration import calibrate, keep
from depthwise.hardware.load import Watch
from depthwise.hardware.probes import Probes, fma_rate
from depthwise.hardware.record import Machine
from depthwise.latency.calibration_networks import calibration_plan, networks_in
from depthwise.latency.features import features_of
from depthwise.latency.fingerprint import is_current
from depthwise.latency.fit import Timed, TimedNetwork, fit_error, make_table
from depthwise.progress import track
from depthwise.runtime.target import find_target, native_for

SECONDS = 1.2  # that each calibration network runs
# How often its weights and arena are allocated again: their addresses decide what stays in a shared
# cache. The same layer took 145 us at one address and 181 us at another.
PLACES = 3
COLD = 0.4  # seconds that it runs with weights that no cache holds
BEYOND = 2  # times as large as the last cache: what is read over and over then comes from memory
GONE = 0.1  # of what is read over and over, the share that a shared cache may hold of it then
MOST = 2**30  # bytes of weights at once
FRESH = 3600  # seconds, of a calibration
TRIES = 3  # at timing a network, where other programs run
STEPS = 12_000  # of the loop that measures the peak beside each run: 40 us, before clocks change


def time_kernels(machine: Machine, precisions: Sequence[str] = ()) -> Machine:
    """Time the steps of the calibration networks, and keep the machine with a kernel table.

    This takes a minute or two. A calibration that is older than an hour is made again first, since
    the coefficients are fitted beside its rates.

    Args:
        machine: The machine as it was calibrated.
        precisions: Narrow ones whose kernels are timed as well, each in half of a minute, once
            they are compiled.

    Returns:
        The machine with its table. `disturbed` says where other programs ran meanwhile: then it was
        not kept.

    Raises:
        BuildError: There is no C compiler, or the cache cannot be written.
    """
    here = machine if machine.seconds_old < FRESH else calibrate()
    reasons = [here.disturbed]
    if not (precisions and is_current(here)):  # which says how much of L3 there is
        samples, disturbed = _time_networks(here, FLOAT32.name)
        here, networks = choose_cache(here, samples)
        here = here.with_table(make_table(here, networks))
        reasons += disturbed
    for precision in precisions:
        samples, disturbed = _time_networks(here, precision)
        networks = [sample.on(here) for sample in samples]
        here = here.with_table(make_table(here, networks, precision))
        reasons += disturbed
    found = here.model_copy(update={"disturbed": next(filter(None, reasons), "")})
    if not found.disturbed:
        keep(found)
    return found


def _time_networks(machine: Machine, precision: str) -> tuple[list["Sample"], list[str]]:
    """Return the timed calibration networks of a precision, and what disturbed each."""
    usual = find_target("native")
    probes, target = Probes(usual, usual.lanes), native_for(precision)
    samples, reasons = [], []
    networks = networks_in(precision)
    kernels = "our kernels" if precision == FLOAT32.name else f"our kernels of {precision}"
    doing = f"timing {kernels} in {len(networks)} networks"
    for network in track(networks, doing, pace=f"kernels {precision}"):
        plan = calibration_plan(network, target, precision)
        sample, disturbed = _time_quietly(network.name, plan, machine, probes)
        samples.append(sample)
        reasons.append(disturbed)
    return samples, reasons


def _time_quietly(name: str, plan: Plan, machine: Machine, probes: Probes) -> tuple["Sample", str]:
    """Return a network's timed steps, and what disturbed the last of up to TRIES."""
    (clocked,) = build_clocked((plan,))
    tries = 0
    while True:
        watch = Watch()
        found = timed(name, clocked, machine, probes)
        disturbed, tries = watch.load().disturbed, tries + 1
        if not disturbed or tries == TRIES:
            return found, disturbed


def timed(name: str, clocked: Clocked, machine: Machine, probes: Probes) -> "Sample":
    """Return the times of each step of a plan, and the peak beside them.

    A second time the weights come from memory, as those of a network do that no cache holds.
    """
    plan = clocked.plan
    runs = [beside_peak(clocked.runner(), probes, SECONDS / PLACES) for _ in range(PLACES)]
    copies = copies_beyond(plan.weights.nbytes, machine)
    cold = [beside_peak(clocked.runner(copies), probes, COLD)] if copies > 1 else []
    return Sample(name, plan, middle_half(runs), middle_half(cold) if cold else None)


def choose_cache(
    machine: Machine, samples: Sequence["Sample"]
) -> tuple[Machine, list[TimedNetwork]]:
    """Return the machine with the L3 that explains the times best, and the samples on it.

    What others leave of a shared cache decides, and how it treats what is read once a run: a loop
    that only read found 128 MiB on a Xeon where networks of more than 45 waited for memory. What it
    holds of more and of less keeps its ratios to that (`share_held`).
    """
    inner, sizes = machine.caches[:-1], sizes_held(machine.shared)
    machines = [machine.model_copy(update={"caches": (*inner, size)}) for size in sizes]
    found = [(each, [sample.on(each) for sample in samples]) for each in machines or [machine]]
    return min(found, key=lambda pair: fit_error(*pair))


@dataclass(frozen=True)
class Runs:
    """The seconds of each step in many runs, (runs, steps), and the GFLOP/s of the peak beside."""

    seconds: np.ndarray
    gflops: np.ndarray

    @property
    def peak(self) -> float:
        """The mean of the peaks."""
        return float(self.gflops.mean())


@dataclass(frozen=True)
class Sample:
    """A calibration network's plan with its usual runs, and those with weights from memory."""

    name: str
    plan: Plan
    usual: Runs
    cold: Runs | None

    def on(self, machine: Machine) -> TimedNetwork:
        """Return the network's layers with their features on a machine, and their times."""
        rows = _rows(self.plan, machine, self.usual)
        cold = _rows(self.plan, machine, self.cold, cold=True) if self.cold else ()
        return TimedNetwork(self.name, self.usual.peak, rows, cold)


def beside_peak(run: Callable[[], np.ndarray], probes: Probes, seconds: float) -> Runs:
    """Run for some seconds, each time between two short loops that measure the peak.

    A core slows down under its widest vectors, and a virtual one whenever others work: what the
    peak was a second ago says little. `run` returns the seconds of each step.
    """
    runs, peaks = [], [fma_rate(probes, STEPS) / 1e9]
    end = time.perf_counter() + seconds
    while len(runs) < LEAST_RUNS or time.perf_counter() < end:
        runs.append(run())
        peaks.append(fma_rate(probes, STEPS) / 1e9)
    return Runs(np.array(runs), np.array([(a + b) / 2 for a, b in pairwise(peaks)]))


def middle_half(runs: Sequence[Runs]) -> Runs:
    """Return the middle half of all runs, by what the whole takes at an equal peak.

    The means of the steps over these add up to a usual run. Medians of steps add up to less, for
    what delays one step in one run delays another in the next: 3.1 ms where the runs took 3.3.
    """
    seconds, gflops = (
        np.concatenate([getattr(each, name) for each in runs]) for name in ("seconds", "gflops")
    )
    order = np.argsort(seconds.sum(1) * gflops)
    quarter = len(order) // 4
    taken = order[quarter : len(order) - quarter]
    return Runs(seconds[taken], gflops[taken])


def _rows(plan: Plan, machine: Machine, runs: Runs, cold: bool = False) -> list[Timed]:
    """Return the layers of a plan with their features and their mean times."""
    found = features_of(plan, machine, cold, runs.peak / machine.gflops)
    return by_layer(plan.steps, found, runs.seconds.mean(0).tolist())


def copies_beyond(size: int, machine: Machine) -> int:
    """Return how many copies of `size` bytes no cache holds; 1 where one is enough or too much."""
    emptied = (each.size for each in machine.shared if each.held < GONE)
    held = next(emptied, BEYOND * max(machine.caches, default=0))
    wanted = -(-held // max(size, 1))
    return max(1, wanted if wanted * size <= MOST else 1)


def by_layer(
    steps: Sequence[KernelCall], found: Sequence[Features], seconds: Sequence[float]
) -> list[Timed]:
    """Add up the steps of each layer that call the same kernel: its bands of rows."""
    sums: dict[tuple[str, str], Timed] = {}
    for step, own, taken in zip(steps, found, seconds, strict=True):
        key = (step.name, step.kernel)
        _, before, earlier = sums.get(key, (step.kernel, {}, 0.0))
        names = {**before, **own}
        total = {name: before.get(name, 0.0) + own.get(name, 0.0) for name in names}
        sums[key] = (step.kernel, total, earlier + taken)
    return list(sums.values())
