"""Known cores, one row each, so that a plan can be made for a CPU that is not here.

Sizes of caches and the units of arithmetic: AMD's "Software Optimization Guide" of families 17h,
19h and 1Ah; Intel's "64 and IA-32 Architectures Optimization Reference Manual"; Arm's technical
reference manuals and software optimization guides; Apple's "Apple Silicon CPU Optimization Guide".
Clocks are those of long runs on several cores. Rates: of zen5 and sapphirerapids as calibrated (an
EPYC and a Xeon, virtual machines); of cortex-a76 those of a Graviton 2, whose cores are its twins
(learn.arm.com, "Measure single-core bandwidth"); the others are estimates, three quarters of the
width of the path that the manuals name, and what one core usually reads by STREAM. Meetings: as
calibrated; the others four times what a message takes by github.com/nviennot/core-to-core-latency,
as on the first two. Decisions change slowly with all of these: whoever has such a CPU can have it
calibrated, and compile for that.

Families and models: Linux's arch/x86/include/asm/intel-family.h and arch/x86/kernel/cpu/amd.c, and
arch/arm64/include/asm/cputype.h.
"""

from dataclasses import dataclass, replace

from depthwise.hardware.core import APART, Caches, ComputeRate, Core, Neighbours, ReadRates
from depthwise.runtime.target import Target

K, M = 2**10, 2**20

AMD, INTEL, ARM, APPLE = "AuthenticAMD", "GenuineIntel", "0x41", "0x61"
SHARED = Neighbours(160, 16)  # cores that share a cache, on a ring or in a cluster
MESH = Neighbours(200, 12)  # of Intel's servers


@dataclass(frozen=True)
class Models:
    """CPUs of one vendor, as /proc/cpuinfo has them; of ARM the implementer and the part."""

    vendor: str
    family: int
    models: range | tuple[int, ...]


@dataclass(frozen=True)
class KnownCore:
    """A row: the core, the CPUs that have it, and the feature that those like it have.

    An unknown CPU of the same vendor is taken for the first row whose `mark` it has.
    """

    core: Core
    cpus: tuple[Models, ...]
    mark: str = ""


# The newest of each vendor first, for their marks.
KNOWN = (
    KnownCore(
        Core("zen5", "x86_64", Caches(48 * K, 1 * M, 32 * M), ReadRates(270, 126, 43),
             ComputeRate(2 * 4.0, 32 * 4.0), APART),
        (Models(AMD, 26, range(256)),), "avx_vnni",
    ),
    KnownCore(
        Core("zen4", "x86_64", Caches(32 * K, 1 * M, 32 * M), ReadRates(90, 85, 30),
             ComputeRate(2 * 3.7, 16 * 3.7), APART),
        (Models(AMD, 25, (*range(0x10, 0x20), *range(0x60, 0x80), *range(0xA0, 0xB0))),),
        "avx512f",
    ),
    KnownCore(
        Core("zen3", "x86_64", Caches(32 * K, 512 * K, 32 * M), ReadRates(85, 80, 25),
             ComputeRate(2 * 3.5, 16 * 3.5), APART),
        (Models(AMD, 25, (*range(0x10), *range(0x20, 0x60))),), "vaes",
    ),
    KnownCore(
        Core("zen2", "x86_64", Caches(32 * K, 512 * K, 16 * M), ReadRates(80, 60, 20),
             ComputeRate(2 * 3.4, 16 * 3.4), APART),
        (Models(AMD, 23, range(0x30, 0x100)),),
    ),
    KnownCore(
        Core("sapphirerapids", "x86_64", Caches(48 * K, 2 * M, 105 * M), ReadRates(175, 27, 16),
             ComputeRate(2 * 3.75, 32 * 3.75), Neighbours(230, 14)),
        (Models(INTEL, 6, (0x8F, 0xCF, 0xAD, 0xAE)),),  # Emerald and Granite Rapids as well
        "amx_tile",
    ),
    KnownCore(
        Core("icelake-server", "x86_64", Caches(48 * K, 1280 * K, 48 * M), ReadRates(140, 22, 12),
             ComputeRate(2 * 2.9, 32 * 2.9), MESH),
        (Models(INTEL, 6, (0x6A, 0x6C)),), "avx512_vbmi2",
    ),
    KnownCore(
        Core("skylake-server", "x86_64", Caches(32 * K, 1 * M, 32 * M), ReadRates(130, 20, 12),
             ComputeRate(2 * 2.7, 32 * 2.7), MESH),
        (Models(INTEL, 6, (0x55,)),), "avx512f",
    ),
    KnownCore(
        Core("alderlake", "x86_64", Caches(48 * K, 1280 * K, 30 * M), ReadRates(225, 80, 35),
             ComputeRate(2 * 4.7, 16 * 4.7), SHARED),
        (Models(INTEL, 6, (0x97, 0x9A, 0xB7, 0xBA, 0xBF)),), "avx_vnni",  # Raptor Lake as well
    ),
    KnownCore(
        Core("cortex-a76", "aarch64", Caches(64 * K, 512 * K, 2 * M), ReadRates(73, 36, 21),
             ComputeRate(2 * 2.4, 8 * 2.4), SHARED),
        (Models(ARM, 0, (0xD0B, 0xD0C)),), "asimddp",  # Neoverse N1 as well
    ),
    KnownCore(  # four share 1 MB
        Core("cortex-a72", "aarch64", Caches(32 * K, 256 * K, 0), ReadRates(18, 5, 5),
             ComputeRate(1 * 1.5, 4 * 1.5), SHARED),
        (Models(ARM, 0, (0xD08,)),),
    ),
    KnownCore(  # four share 512 KB
        Core("cortex-a53", "aarch64", Caches(32 * K, 128 * K, 0), ReadRates(8, 2, 2),
             ComputeRate(1 * 1.4, 4 * 1.4), SHARED),
        (Models(ARM, 0, (0xD03,)),),
    ),
    KnownCore(  # four share 12 MB, and all of the chip the last 8
        Core("apple-m1", "aarch64", Caches(128 * K, 3 * M, 8 * M), ReadRates(150, 80, 58),
             ComputeRate(4 * 3.2, 16 * 3.2), SHARED),
        (Models(APPLE, 0, range(0x22, 0x2A)),), "asimd",
    ),
)  # fmt: skip

CORES = {row.core.name: row.core for row in KNOWN}

GENERIC = "generic"


def generic_core(target: Target) -> Core:
    """Return what a plan is made for where nothing is known but the target.

    That is the core that the defaults were found on.
    """
    return replace(
        CORES["zen5"], name=GENERIC, architecture=target.architecture,
        origin=f"any CPU of {target.name}",
    )  # fmt: skip


def names_for(target: Target) -> list[str]:
    """Return the names of the known cores that a target may be tuned for."""
    return sorted(n for n, core in CORES.items() if core.architecture == target.architecture)
