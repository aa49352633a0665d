"""Whether kernel coefficients still hold: a digest of the C that they were timed with.

An edit that changes no call and no kernel of the calibration networks, as one of a comment, leaves
the digest as it is, and so the calibration current.
"""

import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import torch

from depthwise.compiler.codegen.emit import emit
from depthwise.errors import BuildError
from depthwise.files.cache import cache_directory, keep_text
from depthwise.graph.dtypes import FLOAT32
from depthwise.hardware.choice import choose_core
from depthwise.hardware.core import Core
from depthwise.hardware.record import Machine
from depthwise.latency.calibration_networks import calibration_plan, networks_in
from depthwise.latency.features import VERSION
from depthwise.latency.precisions import target_of
from depthwise.progress import track
from depthwise.runtime.target import OPTIMISE, Target

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
SOURCES = (".py", ".h", ".c", ".jinja")
DIGEST = re.compile("[0-9a-f]{32}")


def is_current(machine: Machine, precision: str = FLOAT32.name) -> bool:
    """Tell whether a machine's coefficients of a precision hold for the kernels and plans of today.

    They have to be of the same C, and timed beside the machine's own calibration. The first call
    after an edit of this package takes seconds.
    """
    table = machine.table(precision)
    if table is None or table.calibrated != machine.date:
        return False
    return table.code == code_digest(target_of(machine, precision), precision)


def code_digest(target: Target, precision: str = FLOAT32.name) -> str:
    """Return a digest of the C of the calibration networks for a target, and of what is counted.

    Emitting it takes seconds, so that the digest is cached under a hash of all sources and of the
    core that plans are made for.
    """
    return digest_for(target, choose_core(None, target, native=True), precision)


@cache
def digest_for(target: Target, core: Core, precision: str = FLOAT32.name) -> str:
    """Return `code_digest` of plans for a core, the one that `choose_core` returns now."""
    try:
        name = f"{_sources_digest(target, core, precision)}.txt"
        path = cache_directory() / "fingerprints" / name
    except BuildError:  # there is no cache: it takes seconds every time
        return emitted_digest(target, precision)
    with suppress(OSError, UnicodeDecodeError):
        if DIGEST.fullmatch(found := path.read_text("utf-8")):
            return found
    found = emitted_digest(target, precision)
    with suppress(BuildError):
        keep_text(path, found)
    return found


def emitted_digest(target: Target, precision: str = FLOAT32.name) -> str:
    """Return the digest, with every plan made and its C emitted."""
    doing = "comparing the kernels with those that were timed"
    parts = [str(VERSION), *OPTIMISE, target.march, target.mcpu]
    for network in track(networks_in(precision), doing, pace="fingerprint"):
        parts += COMMENT.sub(" ", emit(calibration_plan(network, target, precision))).split()
    return _digest(parts)


def _sources_digest(target: Target, core: Core, precision: str) -> str:
    """Return a hash of every source of this package, and of what else plans depend on."""
    named = [target.name, repr(core), precision, torch.__version__]
    return _digest([*named, *_texts(files("depthwise"))])


def _texts(folder: Traversable) -> Iterable[str]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _texts(entry)
        elif entry.name.endswith(SOURCES):
            yield entry.read_text(encoding="utf-8")


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
