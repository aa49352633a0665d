"""Runs our command line in this process, case after case, within limits of memory and time.

    python hostile_numbers.py CASES.json

Prints a line of JSON a case: its exit code, the seconds it took, and what it said.
"""

import contextlib
import io
import json
import resource
import signal
import sys
import time
from pathlib import Path

MOST_MEMORY = 12 << 30  # bytes of addresses: PyTorch alone takes some
MOST_SECONDS = 60


def main(path):
    """Run every case of a file."""
    import torch  # noqa: F401  (before time is taken)

    from depthwise.cli.command import run

    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    for arguments in json.loads(Path(path).read_text()):
        said, start = io.StringIO(), time.perf_counter()
        signal.alarm(MOST_SECONDS)
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = run(arguments)
        signal.alarm(0)
        row = {"code": code, "seconds": time.perf_counter() - start, "said": said.getvalue()}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
