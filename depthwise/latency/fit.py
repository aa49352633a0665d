"""The kernel table: coefficients of each kernel, fitted to timed steps on this machine."""

from collections.abc import Sequence
from statistics import median

import numpy as np

from depthwise.compiler.autotune.step_timer import Clocked, build_clocked
from depthwise.compiler.kernels import KERNELS
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.plan import Plan
from depthwise.compiler.work import Features
from depthwise.hardware.calibration import calibrate, keep
from depthwise.hardware.load import Watch
from depthwise.hardware.probes import Probes, fma_rate
from depthwise.hardware.record import LEVELS, OTHERS, KernelCoefficients, KernelTable, Machine
from depthwise.latency.calibration_networks import CALIBRATION_NETWORKS, calibration_plan
from depthwise.latency.features import common_features, features_of
from depthwise.latency.fingerprint import code_digest
from depthwise.latency.least_squares import bounded_least_squares
from depthwise.progress import track
from depthwise.runtime.target import find_target

SECONDS = 1.2  # that each calibration network runs
# How often its weights and arena are allocated again: their addresses decide what stays in a shared
# cache. The same layer took 145 us at one address and 181 us at another.
PLACES = 3
FRESH = 3600  # seconds, of a calibration
TRIES = 3  # at timing a network, where other programs run
STEPS = 200_000  # of the loop that measures the peak beside them: 7 ms at 280 GFLOP/s
TICK = 3e-7  # seconds: errors of shorter steps are relative to this
TIGHT = 24  # the largest coefficient of a byte, relative to the time that reading one takes
HINT = 0.1  # how much the usual coefficient counts, relative to a step

Timed = tuple[str, Features, float]  # kernel, features, seconds


def time_kernels(machine: Machine) -> Machine:
    """Time the steps of the calibration networks, and keep the machine with a kernel table.

    This takes a minute. A calibration that is older than an hour is made again first, since the
    coefficients are fitted beside its rates.

    Returns:
        The machine with its table. `disturbed` says where other programs ran meanwhile: then it was
        not kept.

    Raises:
        BuildError: There is no C compiler, or the cache cannot be written.
    """
    here = machine if machine.seconds_old < FRESH else calibrate()
    target = find_target("native")
    probes = Probes(target, target.lanes)
    rows: list[Timed] = []
    reasons = [here.disturbed]
    doing = f"timing our kernels in {len(CALIBRATION_NETWORKS)} networks"
    for network in track(CALIBRATION_NETWORKS, doing, pace="kernels"):
        found, disturbed = _time_quietly(calibration_plan(network, target), here, probes)
        rows += found
        reasons.append(disturbed)
    disturbed = next(filter(None, reasons), "")
    found = here.model_copy(update={"kernels": make_table(here, rows), "disturbed": disturbed})
    if not disturbed:
        keep(found)
    return found


def _time_quietly(plan: Plan, machine: Machine, probes: Probes) -> tuple[list[Timed], str]:
    """Return each step of a plan with its time, and what disturbed the last of up to TRIES."""
    (clocked,) = build_clocked((plan,))
    disturbed = ""
    found: list[Timed] = []
    for _ in range(TRIES):
        watch = Watch()
        found = timed(clocked, machine, probes)
        if not (disturbed := watch.load().disturbed):
            break
    return found, disturbed


def timed(clocked: Clocked, machine: Machine, probes: Probes) -> list[Timed]:
    """Return each step of a plan with its time, scaled to the machine's best GFLOP/s.

    The peak is measured before and after, for the clock drifts. Of several allocations the fastest
    counts.
    """
    before = _gflops(probes)
    runs = [clocked.runs(SECONDS / PLACES) for _ in range(PLACES)]
    medians = np.min([np.median(times, axis=0) for times in runs], axis=0)
    share = (before + _gflops(probes)) / 2 / machine.gflops
    plan = clocked.plan
    return by_layer(plan.steps, features_of(plan, machine), (medians * share).tolist())


def by_layer(
    steps: Sequence[KernelCall], found: Sequence[Features], seconds: Sequence[float]
) -> list[Timed]:
    """Add up the steps of each layer that call the same kernel: its bands of rows."""
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
    """Fit the coefficients of each kernel, and those of others, to timed steps."""
    kernels = {kernel: [row for row in rows if row[0] == kernel] for kernel, *_ in rows}
    others = [
        (OTHERS, common_features(found), time)
        for name, found, time in rows
        if KERNELS[name].count is None
    ]
    found = [_fit(machine, name, own) for name, own in (*kernels.items(), (OTHERS, others))]
    return KernelTable(
        code=code_digest(find_target(machine.target)),
        calibrated=machine.date,
        gflops=machine.gflops,
        kernels=tuple(found),
    )


def _fit(machine: Machine, kernel: str, rows: Sequence[Timed]) -> KernelCoefficients:
    """Return the coefficients with the least relative errors over a kernel's steps."""
    names = sorted({name for _, found, _ in rows for name in found})
    counts = np.array([[found.get(name, 0.0) for name in names] for _, found, _ in rows])
    times = np.array([time for *_, time in rows])
    weights = 1 / np.maximum(times, TICK)
    usual = np.array([_usual(machine, name) for name in names])
    known = np.diag(HINT / usual), np.where(np.isfinite(usual), HINT, 0.0)
    fitted = bounded_least_squares(
        np.concatenate([counts * weights[:, None], known[0]]),
        np.concatenate([times * weights, known[1]]),
        TIGHT * usual,
    )
    errors = np.abs(counts @ fitted - times) * weights
    return KernelCoefficients(
        kernel=kernel, steps=len(rows), error=float(np.median(errors)),
        coefficients={name: float(c) for name, c in zip(names, fitted, strict=True) if c},
    )  # fmt: skip


def _usual(machine: Machine, name: str) -> float:
    """Return the usual coefficient of a byte from a level: the time that reading one takes.

    It is the one that counts where too few steps read from there. Infinity for other features.
    """
    for level in LEVELS:
        if name.endswith(level):
            return 1e-9 / machine.gigabytes(level)
    return np.inf
