"""A measured machine as a table for a person to read."""

from rich.console import Group, RenderableType
from rich.text import Text

from depthwise.analysis.fitted import Column, FittedTable
from depthwise.hardware.arithmetic import INTEGERS, TITLES
from depthwise.hardware.passes import AGREE
from depthwise.hardware.record import Machine, Spread

MACHINE_COLUMNS = (
    Column("", kind="word"),
    Column("best"),
    Column("median", 2),
    Column("worst", 3),
    Column("", kind="word"),
    Column("measured", 1, "word"),
)


def not_kept(machine: Machine) -> str:
    """Return why a disturbed calibration was not kept, and what to do."""
    return (
        f"NOT KEPT: {machine.disturbed} while this machine was measured. It can do more than these "
        "figures say. Let nothing else run, and calibrate again."
    )


def machine_table(machine: Machine) -> RenderableType:
    """Return a row for each thing measured: its best, its median and its worst round."""
    rows = []
    for peak in machine.peaks:
        label = f"multiply-adds, {peak.lanes} lanes"
        rows.append((label, *_numbers(peak.gflops, "{:.1f}"), "GFLOP/s", "one core"))
    for peak in machine.narrow:
        label = f"multiply-adds, {TITLES[peak.arithmetic]}"
        unit = "GOP/s" if peak.arithmetic in INTEGERS else "GFLOP/s"
        rows.append((label, *_numbers(peak.gflops, "{:.1f}"), unit, f"one core, {peak.target}"))
    for reading in machine.readings:
        numbers = _numbers(reading.gigabytes, "{:.1f}")
        span = f"one core, over {_bytes(reading.span)}{_cache(machine, reading.level)}"
        rows.append((f"reading from {reading.level}", *numbers, "GB/s", span))
    if second := machine.second:
        for label, spread in (("arithmetic", second.arithmetic), ("memory", second.memory)):
            numbers = _numbers(spread, "{:.2f}")
            rows.append((f"two threads, {label}", *numbers, "x one", "2 is a whole core more"))
        meeting = _numbers(second.barrier, "{:.0f}")
        rows.append(("two threads meet", *meeting, "ns", "spin barrier"))
    table = FittedTable(MACHINE_COLUMNS, rows)
    title = Text.assemble((machine.cpu, "bold"), f", {machine.cores} cores, {machine.target}")
    notes = [f"{machine.rounds} rounds on {machine.date}, {machine.age}, {machine.compiler}"]
    if machine.apart > AGREE:
        notes.append(
            f"two passes differ by {machine.apart:.0%} though nothing else ran: this machine "
            "changes its speed; the best is what it can do"
        )
    if machine.kernels:
        steps = sum(each.steps for each in machine.kernels.kernels)
        names = ", ".join(
            f"{each.kernel.removeprefix('f32_')} {100 * each.error:.0f} %"
            for each in sorted(machine.kernels.kernels, key=lambda each: -each.steps)
        )
        notes.append(
            f"kernels timed in {steps} layers; the median error of predicting them: {names}"
        )
        if checked := machine.kernels.networks:
            errors = ", ".join(f"{each.name} {100 * each.error:+.1f} %" for each in checked)
            notes.append(f"whole networks, each predicted from the times of the others: {errors}")
    return Group(title, "", table, "", *map(Text, notes))


def _numbers(spread: Spread, form: str) -> list[str]:
    return [form.format(value) for value in (spread.best, spread.median, spread.worst)]


def _cache(machine: Machine, level: str) -> str:
    if level == "memory":
        return ""
    found = "" if machine.cache_source == "system" else ", as a sweep found"
    return f" of {_bytes(machine.caches[int(level[1]) - 1])}{found}"


def _bytes(size: int) -> str:
    """Return a size in powers of two, as is usual for caches: 48 KiB."""
    return f"{size / 2**20:g} MiB" if size >= 2**20 else f"{size / 2**10:g} KiB"
