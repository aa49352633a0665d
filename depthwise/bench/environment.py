"""What a comparison is taken with: the machine, the compiler, the state of our own sources."""

import os
import platform
import subprocess
from pathlib import Path

from depthwise import __version__
from depthwise.bench.record import MachineRecord, SoftwareRecord
from depthwise.runtime.target import cpu_features, cpu_name, find_target
from depthwise.toolchain.build import find_compiler


def describe_machine() -> MachineRecord:
    """Return what is measured on."""
    return MachineRecord(
        system=platform.platform(), processor=cpu_name(), cores=os.cpu_count() or 1,
        features=tuple(sorted(cpu_features())),
    )  # fmt: skip


def describe_software(target: str = "native") -> SoftwareRecord:
    """Return what is measured with."""
    chosen, compiler = find_target(target), find_compiler()
    return SoftwareRecord(
        depthwise=__version__, python=platform.python_version(),
        commit=_git("rev-parse", "HEAD") or None,
        changed=bool(_git("status", "--porcelain", "--untracked-files=no")),
        target=chosen.name, compiler=compiler.identity, flags=compiler.flags(chosen),
    )  # fmt: skip


def _git(*arguments: str) -> str:
    """Return what git says of our sources; nothing where it is missing or does not keep them."""
    command = ("git", "-C", str(Path(__file__).parent), *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
