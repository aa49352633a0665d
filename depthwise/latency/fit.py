"""The kernel table: coefficients of each kernel, fitted to timed steps, and how close they come."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from depthwise.compiler.kernels import KERNELS
from depthwise.compiler.work import Features
from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.record import (
    LEVELS,
    OTHERS,
    CheckedNetwork,
    KernelCoefficients,
    KernelTable,
    Machine,
)
from depthwise.latency.features import common_features, time_of
from depthwise.latency.fingerprint import code_digest
from depthwise.latency.least_squares import bounded_least_squares
from depthwise.latency.precisions import target_of

TICK = 3e-7  # seconds: errors of shorter steps are relative to this
POWER = 0.75  # of a step's time that its error is relative to
TIGHT = 24  # the largest coefficient of a byte, relative to the time that reading one takes
HINT = 0.1  # how much the usual coefficient counts, relative to a step

Timed = tuple[str, Features, float]  # kernel, features, seconds


@dataclass(frozen=True)
class TimedNetwork:
    """The steps of a calibration network: as it runs over and over, and with cold weights.

    `gflops` is the peak of one core beside it. `cold` is empty where no cache holds the network's
    weights anyway.
    """

    name: str
    gflops: float
    rows: Sequence[Timed]
    cold: Sequence[Timed] = ()

    @property
    def seconds(self) -> float:
        """What the whole takes."""
        return sum(time for *_, time in self.rows)


def make_table(
    machine: Machine, networks: Sequence[TimedNetwork], precision: str = FLOAT32.name
) -> KernelTable:
    """Fit the coefficients of each kernel, and those of others, and check them.

    Of a narrow precision those of float32 are added for kernels that its networks do not call.
    """
    fitted = coefficients(machine, networks)
    whole, known = precision == FLOAT32.name, {each.kernel for each in fitted}
    beside = () if whole or machine.kernels is None else machine.kernels.kernels
    return KernelTable(
        code=code_digest(target_of(machine, precision), precision),
        calibrated=machine.date,
        precision=precision,
        gflops=min(machine.gflops, median(network.gflops for network in networks)),
        kernels=(*fitted, *(each for each in beside if each.kernel not in known)),
        networks=tuple(check(machine, networks)),
    )


def check(machine: Machine, networks: Sequence[TimedNetwork]) -> Iterable[CheckedNetwork]:
    """Predict each network as a whole from coefficients that were fitted to the others."""
    for network in networks if len(networks) > 1 else ():
        others = [each for each in networks if each is not network]
        known = {each.kernel: each.coefficients for each in coefficients(machine, others)}
        predicted = sum(
            time_of(found, known.get(kernel, known[OTHERS])) for kernel, found, _ in network.rows
        )
        yield CheckedNetwork(name=network.name, measured=network.seconds, predicted=predicted)


def fit_error(machine: Machine, networks: Sequence[TimedNetwork]) -> float:
    """Return by how much layers are off after a fit to all networks, relative to the whole."""
    known = {each.kernel: each.coefficients for each in coefficients(machine, networks)}
    return fmean(
        sum(abs(time_of(found, known[kernel]) - time) for kernel, found, time in network.rows)
        / network.seconds
        for network in networks
    )


def coefficients(
    machine: Machine, networks: Sequence[TimedNetwork]
) -> tuple[KernelCoefficients, ...]:
    """Return the coefficients of each kernel, and those for kernels that none of them calls."""
    rows = [row for network in networks for row in (*network.rows, *network.cold)]
    kernels = {kernel: [row for row in rows if row[0] == kernel] for kernel, *_ in rows}
    others = [
        (OTHERS, common_features(found), time)
        for name, found, time in rows
        if KERNELS[name].count is None
    ]
    return tuple(_fit(machine, name, own) for name, own in (*kernels.items(), (OTHERS, others)))


def _fit(machine: Machine, kernel: str, rows: Sequence[Timed]) -> KernelCoefficients:
    """Return the coefficients with the least errors over a kernel's steps.

    Errors count relative to a power of the time that lies between 0, with which only long steps
    count, and 1, with which whole networks come out too short, for what varies is underestimated.
    """
    names = sorted({name for _, found, _ in rows for name in found})
    counts = np.array([[found.get(name, 0.0) for name in names] for _, found, _ in rows])
    times = np.array([time for *_, time in rows])
    weights = np.maximum(times, TICK) ** -POWER * times.mean() ** (POWER - 1)
    usual = np.array([_usual(machine, name) for name in names])
    most = np.where(np.array(names) == "overlap", 1.0, TIGHT * usual)
    known = np.diag(HINT / usual), np.where(np.isfinite(usual), HINT, 0.0)
    fitted = bounded_least_squares(
        np.concatenate([counts * weights[:, None], known[0]]),
        np.concatenate([times * weights, known[1]]),
        most,
    )
    errors = np.abs(counts @ fitted - times) / np.maximum(times, TICK)
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
