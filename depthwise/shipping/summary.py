"""What was found, as a person reads it on the screen."""

from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from depthwise.analysis.units import in_seconds, in_units
from depthwise.escaping import counted
from depthwise.graph.dtypes import FLOAT32
from depthwise.report.accuracy_record import AccuracyRecord
from depthwise.report.changed_record import SlimmingStageRecord, TrainingStageRecord
from depthwise.report.record import (
    Baseline,
    Comparison,
    Compilation,
    CostSummary,
    LayerProfile,
    Predictions,
    Report,
)
from depthwise.report.slimming_record import say_cost
from depthwise.training.result import SplitResult

PYTORCH = "pytorch"
SHOWN = 2  # guesses an image
AGAIN = "Let nothing else run, and ship again: only what was disturbed is timed again."


def summary(report: Report, directory: Path) -> RenderableType:
    """Return a few lines for each stage, and where the report was written."""
    request = report.request
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for title, lines in (
        ("trained", _training(report.find(TrainingStageRecord))),
        ("slimmed", _slimming(report.find(SlimmingStageRecord))),
        ("counted", _costs(report.find(CostSummary))),
        ("compiled", _compilation(report.find(Compilation))),
        ("images", _predictions(report.find(Predictions))),
        ("right", _accuracy(report.find(AccuracyRecord))),
        ("speed", _comparison(report.find(Comparison), request.threads)),
        ("time", _profile(report.find(LayerProfile))),
        ("saved", _saving(report.find(Baseline), report.find(CostSummary))),
    ):
        for i, line in enumerate(lines):
            table.add_row("" if i else title, Text(line))
    shapes = " and ".join("x".join(map(str, shape)) for shape in request.input_shapes)
    weights = "random weights" if request.untrained else request.weights or "its own weights"
    if report.find(TrainingStageRecord):
        weights = "trained here"
    head = Text(f"{request.network} on {shapes}, {weights}", style="bold")
    alarm = [Text(line, style="bold red") for line in _disturbed(report)]
    return Group(
        head, *alarm, table, Text.assemble(("written", "bold"), f"   {directory}/report.html")
    )


def _disturbed(report: Report) -> list[str]:
    """Return what was timed on a busy machine: it is said before any figure."""
    lines = [
        f"NOT A MEASUREMENT, timed {what}: {reason}" for what, reason in report.disturbed.items()
    ]
    return [*lines, AGAIN] if lines else []


def _training(found: TrainingStageRecord | None) -> list[str]:
    if not found:
        return []
    lines = [f"{in_seconds(found.seconds)} on {found.data}: {_rightness(found.validation)}"]
    return lines + ([f"test images: {_rightness(found.test)}"] if found.test else [])


def _slimming(stage: SlimmingStageRecord | None) -> list[str]:
    if not stage:
        return []
    found = stage.found
    before, after = found.before, found.after
    lines = [f"to {found.budget}, by {counted(len(found.steps), 'change')}: {stage.network}"]
    for measure in ("macs", "parameters", "milliseconds"):
        costs = (say_cost(measure, getattr(each, measure)) for each in (before, after))
        lines.append(" to ".join(costs))
    lines[-1] += f", {found.ratio:.2f} times as fast" if found.ratio else " (estimated)"
    if before.accuracy is not None and after.accuracy is not None:
        lines.append(
            f"{before.accuracy:.2%} to {after.accuracy:.2%} of {after.images:,} images right"
        )
    lines.append(f"{after.names}: {after.agreement:.2%}")
    return [*lines, *([str(found.recovery)] if found.recovery else []), *found.notes]


def _costs(found: CostSummary | None) -> list[str]:
    if not found:
        return []
    lines = [f"{in_units(found.macs)} multiply-adds (MACs), {in_units(found.params)} parameters"]
    if found.not_counted:
        lines.append(f"NOT COUNTED: {', '.join(found.not_counted)}")
    notes = len(found.findings) - found.warnings
    lines.append(f"lint: {counted(found.warnings, 'warning')}, {counted(notes, 'note')}")
    return lines


def _compilation(found: Compilation | None) -> list[str]:
    if not found:
        return []
    manifest = found.manifest
    lines = [
        f"for {manifest.build.target}: {in_units(manifest.memory.weights_bytes, 'B')} of weights, "
        f"{in_units(manifest.memory.arena_bytes, 'B')} of memory, "
        f"{in_units(found.library_bytes, 'B')} of code"
    ]
    if manifest.choice:
        lines.append(str(manifest.choice))
    elif manifest.build.precision != FLOAT32.name:
        lines.append(f"computed in {manifest.build.precision}")
    if check := manifest.verification:
        lines.append(f"verified: {check.summary}, on {counted(check.inputs, 'input')}")
    else:
        lines.append(manifest.unproven)
    return lines


def _predictions(found: Predictions | None) -> list[str]:
    if not found:
        return []
    lines = [
        f"{image.file}: "
        + ", ".join(f"{guess.name} {guess.probability:.0%}" for guess in image.guesses[:SHOWN])
        for image in found.images
        if image.guesses
    ]
    return [*lines, *found.remarks]


def _accuracy(found: AccuracyRecord | None) -> list[str]:
    if not found or not found.network:
        return []
    lines = [f"network: {_rightness(found.network)} of the {found.split} images of {found.data}"]
    if found.library:
        same = f"the same class in {found.equal:,} of {found.library.images:,} images"
        ties = f", and {counted(found.ties, 'tie')}" if found.ties else ""
        lines.append(f"library: {_rightness(found.library)}; {same}{ties}")
    if found.different:
        lines.append(f"ANOTHER CLASS in {counted(len(found.different), 'image')}")
    return [*lines, *found.remarks]


def _rightness(found: SplitResult) -> str:
    low, high = found.interval
    return f"{found.accuracy:.2%} right (95 %: {100 * low:.1f} to {100 * high:.1f})"


def _comparison(found: Comparison | None, threads: int) -> list[str]:
    if not found or not found.ours:
        return list(found.remarks) if found else []
    lines = []
    eager = found.line(PYTORCH)
    if found.disturbed:
        low, high = min(line.p10 for line in found.lines), max(line.p90 for line in found.lines)
        lines.append(
            f"not measured: runs took from {_time(low)} to {_time(high)} on a busy machine"
        )
    elif eager:
        lines.append(
            f"{eager.ratio:.2f} times as fast as PyTorch {eager.version}: "
            f"{_time(found.ours.median)} for {_time(eager.median)}, on {counted(threads, 'thread')}"
        )
    lines += [
        f"{line.ratio:.2f} times as fast as {line.name} {line.version}: {_time(line.median)}"
        for line in found.lines
        if line.ratio and line.name != PYTORCH and not found.disturbed
    ]
    lines += found.remarks
    lines += [f"{name} cannot run it: {reason}" for name, reason in found.failed.items()]
    if found.missing:
        lines.append(
            f"not installed, so not compared: {', '.join(found.missing)} "
            "(pip install 'depthwise[bench]'; litert alone: 'depthwise[litert]', in an environment "
            "of its own)"
        )
    return lines


def _profile(found: LayerProfile | None) -> list[str]:
    if not found or not found.layers:
        return list(found.remarks) if found else []
    kinds = ", ".join(f"{kind.kind} {kind.share:.0%}" for kind in found.kinds if kind.share >= 0.02)
    if found.disturbed:
        return [f"not measured: {_time(found.milliseconds)} on a busy machine", found.calibrated]
    peak = f"{found.of_peak:.0%} of this core's peak" if found.of_peak else "no share of the peak"
    ideal = (
        ""
        if found.ideal is None
        else (f"; the rooflines of its layers add up to {_time(found.ideal)}")
    )
    lines = [
        f"{_time(found.milliseconds)} on one thread: {kinds}",
        f"{found.rate:.0f} GFLOP/s, {peak}{ideal}",
        found.calibrated,
    ]
    if found.contradicted or found.of_peak is None:
        lines.append(
            f"not usable: the peak measured was lower than what {_several(found.contradicted)} "
            "reached: the machine changed speed meanwhile"
        )
    return lines


def _several(layers: tuple[str, ...]) -> str:
    more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
    return f"{layers[0]}{more}" if layers else "the whole"


def _saving(found: Baseline | None, costs: CostSummary | None) -> list[str]:
    if not found or not found.times or not costs or found.times.macs_saved <= 1:
        return []
    times = found.times
    fewer = f"{times.macs_saved:.1f} times fewer MACs than {costs.baseline}"
    if found.disturbed:
        return [fewer]
    return [
        f"{fewer}, and {times.time_saved:.1f} times faster: {times.realized:.0%} of the promise"
    ]


def _time(milliseconds: float) -> str:
    return in_seconds(1e-3 * milliseconds)
