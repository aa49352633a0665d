"""The core that a plan is made for: as was asked, or the best that is known."""

from dataclasses import replace

from depthwise.hardware.calibration import find
from depthwise.hardware.core import CALIBRATED, Core, core_of_machine
from depthwise.hardware.detection import cpu_text, detect_core
from depthwise.hardware.known_cores import CORES, GENERIC, generic_core, names_for
from depthwise.runtime.target import Target

NATIVE = "native"  # this machine's, as for the target of that name


def choose_core(name: str | None, target: Target, native: bool) -> Core:
    """Return the core of that name, in any case; by None that of this machine if it is `native`.

    This machine's is the row of the table, which is the same wherever such a CPU is; of a CPU that
    is in no row, what was calibrated; else the target's generic one, as for any named target.
    Raises ValueError for a name that is no core of the target's, or was not calibrated.
    """
    if name is None:
        return (native_core(target) if native else None) or generic_core(target)
    asked = name.lower()
    if asked == GENERIC:
        return generic_core(target)
    if asked == CALIBRATED:
        return _calibrated(target)
    if asked == NATIVE:
        return _native(target)
    core = CORES.get(asked)
    here = [NATIVE, CALIBRATED] if target.runs_here else []
    accepted = f"take one of {', '.join([*names_for(target), *here, GENERIC])}"
    if core is None:
        raise ValueError(f"tune_for={name!r}: no core is known by that name: {accepted}")
    if core.architecture != target.architecture:
        raise ValueError(
            f"tune_for={name!r} is a core of {core.architecture}, and the target is {target.name}: "
            f"{accepted}"
        )
    return replace(core, origin="as asked for")


def _native(target: Target) -> Core:
    _check_here(target, f"tune_for={NATIVE!r}: that is this machine")
    return native_core(target) or generic_core(target)


def _check_here(target: Target, said: str) -> None:
    """Raise ValueError, with what was asked for, where this machine cannot run a target's code."""
    if not target.runs_here:
        raise ValueError(
            f"{said}, which cannot run code for {target.name}: take one of "
            f"{', '.join([*names_for(target), GENERIC])}"
        )


def native_core(target: Target) -> Core | None:
    """Return what is known of this machine's cores; None where that is nothing."""
    known = detect_core(cpu_text())
    if known and known.architecture == target.architecture:
        return known
    machine = find()
    return core_of_machine(machine, target.architecture) if machine else None


def _calibrated(target: Target) -> Core:
    _check_here(target, f"tune_for={CALIBRATED!r}: the calibration is of this machine")
    machine = find()
    if machine is None:
        raise ValueError(
            f"tune_for={CALIBRATED!r}: this machine was not calibrated, or by another version: run "
            "`depthwise calibrate` first"
        )
    return core_of_machine(machine, target.architecture)
