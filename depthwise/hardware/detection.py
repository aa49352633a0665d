"""Which known core this machine has, by what the system says of its CPU."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from depthwise.hardware.core import Core
from depthwise.hardware.known_cores import APPLE, KNOWN, KnownCore, Models
from depthwise.runtime.target import ask_sysctl, read_cpuinfo

M1, LATER = 0x22, 0xFFF  # parts of Apple's, of which macOS tells the name alone


@dataclass(frozen=True)
class Identity:
    """What a system says of one core; of ARM the vendor is the implementer, the model the part."""

    vendor: str
    family: int
    model: int
    features: frozenset[str]

    def is_of(self, cpus: Models) -> bool:
        """Tell whether this is one of some CPUs."""
        same = (self.vendor, self.family) == (cpus.vendor, cpus.family)
        return same and self.model in cpus.models


def detect_core(text: str) -> Core | None:
    """Return the known core of a CPU, the fastest where it has several; None where there is none.

    `text` is /proc/cpuinfo's. A CPU that is not in the table, or behind a hypervisor that gives it
    another's number, is taken for the newest of its vendor whose instructions it has.
    """
    found = [
        (row, "this machine's CPU" if exact else "nearest to this machine's CPU")
        for identity in set(identities(text))
        for row, exact in _rows(identity)
    ]
    if not found:
        return None
    row, origin = max(found, key=lambda pair: pair[0].core.arithmetic.most)
    return replace(row.core, origin=origin)


def _rows(identity: Identity) -> Iterator[tuple[KnownCore, bool]]:
    """Yield the row of one core, and whether it is that very one."""
    for row in KNOWN:
        if any(map(identity.is_of, row.cpus)):
            yield row, True
            return
    for row in KNOWN:
        if identity.vendor == row.cpus[0].vendor and row.mark in identity.features:
            yield row, False
            return


def identities(text: str) -> list[Identity]:
    """Return what /proc/cpuinfo says of each core."""
    found = []
    for block in text.strip().split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        fields = {name.strip(): value.strip() for name, _, value in pairs}
        features = fields.get("flags", fields.get("Features", ""))
        try:
            vendor = fields.get("vendor_id") or fields["CPU implementer"]
            family = int(fields.get("cpu family", "0"))
            model = int(fields.get("model") or fields["CPU part"], 0)
        except (KeyError, ValueError):  # a block of the board, or of another architecture
            continue
        found.append(Identity(vendor, family, model, frozenset(features.lower().split())))
    return found


@cache
def cpu_text() -> str:
    """Return what the system says of this CPU, in the words of /proc/cpuinfo; "" for nothing."""
    if sys.platform == "darwin":
        return as_cpuinfo({name: ask_sysctl(f"machdep.cpu.{name}") for name in SYSCTL})
    return read_cpuinfo()


SYSCTL = ("brand_string", "vendor", "family", "model", "features", "leaf7_features")


def as_cpuinfo(told: dict[str, str]) -> str:
    """Return what macOS tells, by the last part of its names, as /proc/cpuinfo would have it."""
    if told["brand_string"].startswith("Apple"):
        part = M1 if "M1" in told["brand_string"].split() else LATER
        return f"CPU implementer : {APPLE}\nCPU part : {part:#x}\nFeatures : asimd\n"
    features = f"{told['features']} {told['leaf7_features']}".lower().replace(".", "_")
    return (
        f"vendor_id : {told['vendor']}\ncpu family : {told['family']}\nmodel : {told['model']}\n"
        f"flags : {features}\n"
    )
