"""The probes of probes.h and products.h, compiled for this machine and called."""

import ctypes
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import numpy as np

from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.arithmetic import Arithmetic
from depthwise.kernels import source
from depthwise.runtime.library import aligned_bytes
from depthwise.runtime.opening import open_content
from depthwise.runtime.target import Target
from depthwise.toolchain.build import compile_c

READ_VECTORS = 8  # that probe_read loads in a step
GATE_BYTES = 128


class Probes:
    """Runs one probe at a time, with vectors of `lanes` floats, and returns the seconds it took.

    Raises BuildError where there is no C compiler.
    """

    def __init__(self, target: Target, lanes: int):
        self.chains = _chains(target)
        self.lanes = lanes
        self._library = _compiled(target, lanes, self.chains)
        for name in ("probe_fma", "probe_read", "probe_barrier"):
            getattr(self._library, name).restype = ctypes.c_double

    def fma(self, steps: int, threads: int) -> float:
        """Do steps x chains x lanes multiply-adds in each thread."""
        function = self._library.probe_fma
        return _at_once(threads, lambda _, *gate: function(ctypes.c_long(steps), *gate))

    def read(self, spans: list[np.ndarray], passes: int) -> float:
        """Read each span of bytes a number of times, each in a thread of its own."""

        def call(thread: int, *gate: object) -> float:
            floats = ctypes.c_long(spans[thread].size // FLOAT32.bytes)
            start = ctypes.c_void_p(spans[thread].ctypes.data)
            return self._library.probe_read(start, floats, ctypes.c_long(passes), *gate)

        return _at_once(len(spans), call)

    def barrier(self, times: int, threads: int) -> float:
        """Let the threads meet a number of times."""
        function = self._library.probe_barrier
        return _at_once(threads, lambda _, *gate: function(ctypes.c_long(times), *gate))

    def span(self, size: int) -> np.ndarray:
        """Return memory of at least `size` bytes, of whole steps, written once."""
        step = READ_VECTORS * self.lanes * FLOAT32.bytes
        memory = aligned_bytes(-(-size // step) * step)
        memory[:] = 0  # else every page would be the system's one page of zeros
        return memory


class ProductProbes:
    """Multiplies numbers of a narrow type as a target has it, and returns the seconds it took.

    `products` are the multiply-adds of a step, `allowed` says whether the system lends what they
    take: the tiles of AMX, on request. Raises BuildError where there is no C compiler.
    """

    def __init__(self, target: Target, arithmetic: Arithmetic):
        chains = _chains(target)
        if arithmetic in TILE_CHANNELS:
            self.products = TILES * TILE * TILE * TILE_CHANNELS[arithmetic]
        else:
            self.products = chains * target.lanes * LANE_PRODUCTS[arithmetic]
        self._library = _compiled(target, target.lanes, chains, arithmetic)
        self._library.probe_products.restype = ctypes.c_double

        # a process that takes tiles before it has asked for them is stopped
        self.allowed = arithmetic not in TILE_CHANNELS or bool(self._library.net_tiles())

    def run(self, steps: int, threads: int) -> float:
        """Do steps x products multiply-adds in each thread."""
        assert self.allowed, "the system does not lend the tiles of AMX"
        function = self._library.probe_products
        return _at_once(threads, lambda _, *gate: function(ctypes.c_long(steps), *gate))

    def rate(self, steps: int, threads: int = 1) -> float:
        """Return the operations, 2 a multiply-add, that all threads together do in a second."""
        return 2 * steps * self.products * threads / self.run(steps, threads)


TILES, TILE = 4, 16  # of sums in a step; rows, and columns, of one
TILE_CHANNELS: Mapping[Arithmetic, int] = {"bfloat16 tiles": 32, "int8 tiles": 64}
LANE_PRODUCTS: Mapping[Arithmetic, int] = {"float16": 2, "int8 dots": 4, "int8 pairs": 2}
MACROS: Mapping[Arithmetic, tuple[str, ...]] = {
    "float16": ("PROBE_HALVES",),
    "int8 dots": ("PROBE_DOTS",),
    "int8 pairs": ("PROBE_PAIRS",),
    "bfloat16 tiles": ("PROBE_BF16_TILES", "NET_API", "NET_AMX (1u << 24 | 1u << 22)"),
    "int8 tiles": ("PROBE_U8_TILES", "NET_API", "NET_AMX (1u << 24 | 1u << 25)"),
}  # the bits of CPUID as kernels/permission.h takes them
INCLUDE = '#include "'  # in kernels, of each other


def _chains(target: Target) -> int:
    """Return how many sums are under way at once.

    8 fill two pipes of 4 cycles; more do no harm while they stay in registers.
    """
    return 24 if target.registers >= 32 else 12


def _compiled(
    target: Target, lanes: int, chains: int, arithmetic: Arithmetic | None = None
) -> ctypes.CDLL:
    """Return the probes with vectors of `lanes` floats, or those that multiply narrow types."""
    own = files("depthwise.hardware")
    names = ("vector.h",) if arithmetic is None else ("vector.h", "bytes.h", "dot_u8.h", "tiles.h")
    kernels = [source(name) for name in names]
    if arithmetic in TILE_CHANNELS:
        kernels += [source("cpu.h"), source("permission.h")]
    probes = ["probes.h"] if arithmetic is None else ["probes.h", "products.h"]
    text = "\n".join(
        (
            "#define _POSIX_C_SOURCE 200112L",
            "#include <math.h>",
            "#include <string.h>",
            f"#define VL {lanes}",
            f"#define CHAINS {chains}",
            *(f"#define {macro}" for macro in (MACROS[arithmetic] if arithmetic else ())),
            *kernels,
            *((own / name).read_text(encoding="utf-8") for name in probes),
        )
    )
    alone = "\n".join(line for line in text.split("\n") if not line.startswith(INCLUDE))
    return open_content(compile_c(alone, target).read_bytes())


def fma_rate(probes: Probes, steps: int, threads: int = 1) -> float:
    """Return the operations, 2 a multiply-add, that all threads together do in a second."""
    work = 2 * steps * probes.chains * probes.lanes * threads
    return work / probes.fma(steps, threads)


def _at_once(threads: int, call: Callable[..., float]) -> float:
    """Return the seconds until the last thread is done; `call` takes the thread and the gate."""
    gate = aligned_bytes(GATE_BYTES)
    gate[:] = 0
    shared = (ctypes.c_int(threads), ctypes.c_void_p(gate.ctypes.data))
    if threads == 1:
        return call(0, *shared)
    with ThreadPoolExecutor(threads) as pool:
        return max(pool.map(lambda thread: call(thread, *shared), range(threads)))
