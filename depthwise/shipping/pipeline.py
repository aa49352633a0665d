"""count -> compile -> look -> compare -> profile -> refer -> report: each kept when it is done.

A stage is a function from the order and what was found so far to a record of its own. It runs
again only where something that it depends on has changed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from depthwise import __version__
from depthwise.bench.environment import describe_machine, describe_software
from depthwise.escaping import in_line, in_text
from depthwise.report.page import render_page
from depthwise.report.record import (
    FORMAT,
    Asked,
    BaselineRecord,
    Compared,
    Compiled,
    Counted,
    Looked,
    Profiled,
    Record,
    Report,
)
from depthwise.runtime.artifact import add_report
from depthwise.shipping.request import Order
from depthwise.shipping.stages.baseline import refer
from depthwise.shipping.stages.building import build, stands
from depthwise.shipping.stages.classifying import look
from depthwise.shipping.stages.comparing import compare, installed_versions
from depthwise.shipping.stages.counting import count
from depthwise.shipping.stages.profiling import profile_layers
from depthwise.shipping.state import hash_files, keep_stage, make_key, read_stage

Inputs = Callable[[Order], list[Any]]  # what a stage depends on beside the stages before it


def _nothing(_: Order) -> list[Any]:
    return []


def _still(_order: Order, _found: Any) -> bool:
    return True


def _undisturbed(_order: Order, found: Compared | Profiled | BaselineRecord) -> bool:
    """Tell whether times can be trusted: those of a busy machine are taken again."""
    return not found.disturbed


class Stage(NamedTuple):
    """One stage: the part of the report that it fills, what it does in words, how it does it.

    `stands` tells whether what it found can be taken again: what it left outside of its record is
    still there, what it timed was not disturbed.
    """

    part: str
    doing: str
    kind: type[Record]
    run: Callable[[Order, Report], Record]
    inputs: Inputs = _nothing
    stands: Callable[[Order, Any], bool] = _still


Told = Callable[[Stage, bool], None]

# Stages that change the network, as training and slimming do, belong between counted and compiled.
STAGES = (
    Stage("counted", "counting and linting", Counted, count),
    Stage(
        "compiled", "compiling and verifying", Compiled, build,
        lambda order: [order.build.chosen.name, order.build.threads, order.build.optimize,
                       order.build.tune, order.build.cc,
                       hash_files(order.images), order.source.labels],
        stands,
    ),
    Stage(
        "looked", "looking at the images", Looked, look,
        lambda order: [order.left_out, order.broken],
    ),
    Stage(
        "compared", "timing beside other runtimes", Compared, compare,
        lambda order: [installed_versions(), describe_machine().model_dump(), order.rounds],
        _undisturbed,
    ),
    Stage(
        "profiled", "timing layer by layer", Profiled, profile_layers, stands=_undisturbed
    ),
    Stage(
        "referenced", "timing beside ResNet-50", BaselineRecord, refer, stands=_undisturbed
    ),
)  # fmt: skip


def ship(order: Order, told: Told = lambda _stage, _kept: None) -> Report:
    """Take an order through all stages, write the report beside the library, and return it.

    `told` hears of each stage before it begins, and whether it is taken as it was kept. Raises what
    compiling raises, ValueError for images that cannot be read, OSError where nothing can be
    written: then all stages that were finished are kept.
    """
    report = run_stages(order, told)
    add_report(order.directory, render_page(report), report.model_dump_json(indent=1) + "\n")
    return report


def run_stages(order: Order, told: Told = lambda _stage, _kept: None) -> Report:
    """Return what every stage found; one that was finished before, of the same, is not run again.

    Raises what `ship` raises.
    """
    report = begin(order)
    key = make_key(__version__, FORMAT, order.source.digest, order.source.untrained)
    for stage in STAGES:
        key = make_key(key, stage.part, stage.inputs(order))
        found = read_stage(order.directory, stage.part, key, stage.kind)
        kept = found is not None and stage.stands(order, found)
        told(stage, kept)
        if not kept:
            found = stage.run(order, report)
            keep_stage(order.directory, stage.part, key, found)
        report = report.model_copy(update={stage.part: found})
    return report


def begin(order: Order) -> Report:
    """Return a report that holds only what was asked, of whom."""
    source = order.source
    asked = Asked(
        network=in_line(source.network), weights=in_line(source.weights),
        settings={name: in_line(value) for name, value in source.settings.items()},
        untrained=source.untrained, input_shapes=source.shapes,
        images=tuple(in_line(path.name) for path in order.images), images_left_out=order.left_out,
        target=order.build.chosen.name, threads=order.build.threads,
        optimize=order.build.optimize, command=in_text(order.command),
        directory=in_text(str(order.directory)),
    )  # fmt: skip
    return Report(
        depthwise=__version__, asked=asked, machine=describe_machine(),
        software=describe_software(),
    )  # fmt: skip
