"""Our own library whose convolutions are all direct."""

from pathlib import Path

from depthwise.bench.peers import RunOnce
from depthwise.bench.peers.ours import open_library


def open_network(case: Path, threads: int) -> RunOnce:  # noqa: ARG001  (compiled in)
    """Return a function that runs the library on the input."""
    return open_library(case, "direct")
