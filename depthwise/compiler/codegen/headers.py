"""The kernels' headers as parts of one text, each once after those it includes; their macros."""

from collections.abc import Collection, Iterable
from functools import cache

from depthwise.compiler.kernels import KERNELS
from depthwise.compiler.plan import Plan
from depthwise.kernels import source

INCLUDE = '#include "'  # how a kernel header names another


@cache
def header_text(name: str) -> str:
    """Return the C of a kernel header, without the headers that it needs."""
    lines = source(f"{name}.h").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(INCLUDE))


@cache
def headers_below(name: str) -> tuple[str, ...]:
    """Return the headers that a kernel header includes."""
    lines = source(f"{name}.h").splitlines()
    return tuple(line.removeprefix(INCLUDE).rstrip('"').removesuffix(".h")
                 for line in lines if line.startswith(INCLUDE))  # fmt: skip


def with_headers_below(names: Iterable[str]) -> list[str]:
    """Return headers, each once and after those that it needs."""
    found: list[str] = []

    def add(name: str) -> None:
        for below in headers_below(name):
            add(below)
        if name not in found:
            found.append(name)

    for name in names:
        add(name)
    return found


def needed_headers(kernels: Collection[str]) -> list[str]:
    """Return the headers that define `kernels`, each after those that it needs."""
    return with_headers_below(row.header for row in KERNELS.values() if row.c_name in kernels)


def kernel_texts(kernels: Collection[str]) -> list[str]:
    """Return the C of the headers that define `kernels`, each after those that it needs."""
    return [header_text(name) for name in needed_headers(kernels)]


def sizes_of_core(plan: Plan) -> list[str]:
    """Return what the kernels ask of the core that a plan is made for."""
    halves = ["#define F16_SUMS"] if plan.target.halves else []
    return [
        *halves,
        f"#define VL {plan.target.lanes}",
        f"#define L1_BYTES {plan.constants.core.caches.l1}",
        f"#define DEPTHWISE_FETCHES {int(not plan.constants.slow)}",
    ]
