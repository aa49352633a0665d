"""train, slim, count, compile, classify, judge, compare, profile, baseline, report.

Each is cached once it is done. A stage is a function from the request, the network and the report
so far to a record of its own and the network for the stages after it: the same one, or one that it
changed. It runs again only where something that it depends on has changed.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

from depthwise import __version__
from depthwise.bench.environment import describe_machine, describe_software
from depthwise.escaping import in_line, in_text
from depthwise.report.accuracy_record import AccuracyRecord
from depthwise.report.changed_record import SlimmingStageRecord, TrainingStageRecord
from depthwise.report.page import render_page
from depthwise.report.record import (
    FORMAT,
    Baseline,
    Comparison,
    Compilation,
    CostSummary,
    LayerProfile,
    Predictions,
    Report,
    RequestRecord,
    StageRecord,
    TimedRecord,
)
from depthwise.runtime.artifact import add_report
from depthwise.shipping.network import CurrentNetwork
from depthwise.shipping.request import Request
from depthwise.shipping.stages import slimming, training
from depthwise.shipping.stages.baseline import time_baseline
from depthwise.shipping.stages.building import build_library, is_saved, precision_key
from depthwise.shipping.stages.classifying import classify_images
from depthwise.shipping.stages.comparing import compare_runtimes, installed_versions
from depthwise.shipping.stages.counting import count_costs
from depthwise.shipping.stages.judging import data_key, judge_accuracy
from depthwise.shipping.stages.profiling import profile_library
from depthwise.shipping.stages.slimming import slim_network, slimming_key
from depthwise.shipping.stages.training import train_network, training_key
from depthwise.shipping.state import cache_stage, forget_others, hash_files, make_key, read_stage

RunStage = Callable[[Request, CurrentNetwork, Report], tuple[StageRecord, CurrentNetwork]]


def _nothing(_request: Request, _network: CurrentNetwork) -> list[Any]:
    return []


def _is_asked(_request: Request) -> bool:
    return True


def _always(_request: Request, _found: Any) -> bool:
    return True


def _was_undisturbed(_request: Request, found: TimedRecord) -> bool:
    """Tell whether times can be trusted: those of a busy machine are taken again."""
    return not found.disturbed


def _unchanged(_request: Request, network: CurrentNetwork, _found: Any) -> CurrentNetwork:
    return network


class Stage(NamedTuple):
    """One stage of the way from a network to a report.

    Attributes:
        kind: The kind of its record, which names the stage.
        doing: What it does, in words.
        run: How it does it.
        inputs: What it depends on beside the network, the stages before it and what they depend on;
            values that JSON can hold.
        is_current: Whether what it found in an earlier run still holds: what it left outside of its
            record is still there, what it timed was not disturbed.
        restore: The network that it handed on in an earlier run, from the one that it gets and the
            record of that run; None where that cannot be had any more. A stage that changes the
            network needs one.
        applies: Whether it is asked for; else there is no record of it.
    """

    kind: type[StageRecord]
    doing: str
    run: RunStage
    inputs: Callable[[Request, CurrentNetwork], list[Any]] = _nothing
    is_current: Callable[[Request, Any], bool] = _always
    restore: Callable[[Request, CurrentNetwork, Any], CurrentNetwork | None] = _unchanged
    applies: Callable[[Request], bool] = _is_asked

    @property
    def name(self) -> str:
        """What the stage is called in the report and in the folder of cached stages."""
        return self.kind.stage


OnStage = Callable[[Stage, bool], None]

# Stages that change the network come first: what is counted, compiled and timed is what they leave.
STAGES = (
    Stage(
        TrainingStageRecord, "training", train_network, training_key,
        restore=training.open_again, applies=lambda request: request.train is not None,
    ),
    Stage(
        SlimmingStageRecord, "slimming", slim_network, slimming_key,
        restore=slimming.open_again, applies=lambda request: request.slim is not None,
    ),
    Stage(CostSummary, "counting and linting", count_costs),
    Stage(
        Compilation, "compiling and verifying", build_library,
        lambda request, network: [
            request.build.chosen.full_name, request.build.threads, request.build.optimize,
            request.build.tune, asdict(request.build.core), request.build.cc,
            hash_files(request.images), network.labels, precision_key(request),
        ],
        is_saved,
    ),
    Stage(
        Predictions, "classifying the images", classify_images,
        lambda request, _: [request.left_out, request.broken],
    ),
    Stage(
        AccuracyRecord, "judging on labelled images", judge_accuracy,
        lambda request, _: data_key(request.data),
    ),
    Stage(
        Comparison, "timing beside other runtimes", compare_runtimes,
        lambda request, _: [
            installed_versions(), describe_machine().model_dump(), request.rounds,
        ],
        _was_undisturbed,
    ),
    Stage(
        LayerProfile, "timing layer by layer", profile_library, is_current=_was_undisturbed
    ),
    Stage(
        Baseline, "timing beside ResNet-50", time_baseline, is_current=_was_undisturbed
    ),
)  # fmt: skip


def ship(
    request: Request, network: CurrentNetwork, on_stage: OnStage = lambda _stage, _cached: None
) -> Report:
    """Take a network through all stages, write the report beside the library, and return it.

    Args:
        request: How, where and with what images.
        network: What the first stage gets.
        on_stage: Called before each stage with whether its cached record is taken instead of
            running it.

    Raises:
        DepthwiseError: What compiling raises.
        ValueError: Images cannot be read.
        OSError: Nothing can be written there. Finished stages are cached, here as above.
    """
    report = run_stages(request, network, on_stage)
    forget_others(request.directory, {stage.name for stage in STAGES})
    add_report(request.directory, render_page(report), report.model_dump_json(indent=1) + "\n")
    return report


def asked(request: Request) -> list[Stage]:
    """Return the stages that a request asks for, in their order."""
    return [stage for stage in STAGES if stage.applies(request)]


def run_stages(
    request: Request, network: CurrentNetwork, on_stage: OnStage = lambda _stage, _cached: None
) -> Report:
    """Return what every stage found; one that was finished under the same key is not run again.

    The key of a stage is a hash of the network that it gets, of its own inputs, and of the key of
    the stage before it. Raises what `ship` raises.
    """
    report = start_report(request, network)
    key = make_key(__version__, FORMAT)
    for stage in asked(request):
        inputs = stage.inputs(request, network)
        key = make_key(key, stage.name, network.digest, network.untrained, inputs)
        cached = _find_cached(stage, request, network, key)
        on_stage(stage, cached is not None)
        if cached:
            record, network = cached
        else:
            record, network = stage.run(request, network, report)
            cache_stage(request.directory, key, record, network.digest)
        report = report.adding(record)
    return report


def _find_cached(
    stage: Stage, request: Request, network: CurrentNetwork, key: str
) -> tuple[StageRecord, CurrentNetwork] | None:
    """Return what a stage found and handed on in an earlier run; None where it has to run."""
    cached = read_stage(request.directory, key, stage.kind)
    if cached is None or not stage.is_current(request, cached[0]):
        return None
    record, digest = cached
    restored = stage.restore(request, network, record)
    return (record, restored) if restored and restored.digest == digest else None


def start_report(request: Request, network: CurrentNetwork) -> Report:
    """Return a report that holds only the request and the machine."""
    record = RequestRecord(
        network=in_line(request.name), weights=in_line(request.weights),
        settings={name: in_line(value) for name, value in request.settings.items()},
        untrained=network.untrained, input_shapes=network.source.shapes,
        images=tuple(in_line(path.name) for path in request.images),
        images_left_out=request.left_out, target=request.build.chosen.full_name,
        tuned_for=str(request.build.core),
        threads=request.build.threads, optimize=request.build.optimize,
        command=in_text(request.command), directory=in_text(str(request.directory)),
    )  # fmt: skip
    return Report(
        depthwise=__version__, request=record, machine=describe_machine(),
        software=describe_software(),
    )  # fmt: skip
