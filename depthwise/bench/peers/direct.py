"""Our own library whose convolutions are all direct."""

from pathlib import Path

from depthwise.bench.peers import FILES, Opened
from depthwise.bench.peers.ours import open_library


def open_network(case: Path, threads: int, precision: str) -> Opened:  # noqa: ARG001  (compiled in)
    """Return the library."""
    return open_library(case / FILES["direct"])
