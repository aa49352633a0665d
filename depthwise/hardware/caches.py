"""How large the caches of one core are: as the system says, or where reading becomes slower."""

import sys
from collections.abc import Sequence
from pathlib import Path

from depthwise.hardware.record import CacheShare
from depthwise.runtime.target import ask_sysctl

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
SYSTEM = Path("/sys/devices/system/cpu/cpu0/cache")

SWEEP = tuple(2**power for power in range(13, 27))  # bytes: 8 KiB to 64 MiB
FALL = 0.75  # of the rate so far: another level
HALF = 0.5  # of a span that a cache still holds: it may count as that large
LEVEL = 0.9  # of the rate before: reading has settled again


def system_caches(folder: Path = SYSTEM) -> tuple[int, ...]:
    """Return the bytes of L1 (data), L2 and L3 that the system names; none where it does not."""
    if sys.platform == "darwin":
        return _named_by_sysctl()
    found: dict[int, int] = {}
    for index in sorted(folder.glob("index*")):
        try:
            kind, level, size = ((index / name).read_text().strip()
                                 for name in ("type", "level", "size"))  # fmt: skip
        except OSError:
            continue  # a virtual machine may name some of these only
        if kind in ("Data", "Unified") and size[:-1].isdecimal() and size[-1] in UNITS:
            found[int(level)] = int(size[:-1]) * UNITS[size[-1]]
    return tuple(found[level] for level in (1, 2, 3) if level in found and 1 in found)


def _named_by_sysctl() -> tuple[int, ...]:
    sizes = []
    for level in ("l1d", "l2", "l3"):
        for name in (f"hw.perflevel0.{level}cachesize", f"hw.{level}cachesize"):
            told = ask_sysctl(name)
            if told.isdecimal() and int(told) > 0:
                sizes.append(int(told))
                break
    return tuple(sizes)


def shares_held(rates: Sequence[float], memory: float) -> list[float]:
    """Return the share of each of ever longer spans that a cache holds while they are read.

    The first is in it; what is not comes at the rate of memory. What a shared cache holds for one
    core may be far less than the system names: of the 480 MiB of a virtual machine 48 came at
    twice the rate of memory, and 64 no faster.
    """
    gain = 1 / memory - 1 / rates[0]
    shares, held = [], 1.0
    for rate in rates:
        held = min(held, max(0.0, (1 / memory - 1 / rate) / gain)) if gain > 0 else 0.0
        shares.append(held)
    return shares


def sizes_held(shared: Sequence[CacheShare]) -> list[int]:
    """Return the sizes of which a shared cache holds a half: the least measured if of none."""
    return [each.size for each in shared if each.held >= HALF] or [each.size for each in shared[:1]]


def caches_in_sweep(sizes: Sequence[int], rates: Sequence[float]) -> tuple[int, ...]:
    """Return the sizes, at most three, up to which reading was as fast as in the size before.

    A cache ends where the rate falls below 75 % of what it was; the next level starts where it
    has settled to within 10 %.
    """
    found: list[int] = []
    at, rate = 0, rates[0]
    while at + 1 < len(sizes) and len(found) < 3:
        if rates[at + 1] >= FALL * rate:
            at += 1
            continue
        found.append(sizes[at])
        at += 1
        while at + 1 < len(sizes) and rates[at + 1] < LEVEL * rates[at]:
            at += 1
        rate = rates[at]
    return tuple(found)
