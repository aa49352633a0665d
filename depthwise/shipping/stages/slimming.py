"""Slim: the network made to meet a budget, and trained afterwards where that is asked."""

from dataclasses import replace
from pathlib import Path

from depthwise.report.changed_record import SlimmingStageRecord
from depthwise.report.record import Report
from depthwise.runtime.artifact import STATE
from depthwise.shipping.network import CurrentNetwork
from depthwise.shipping.request import Request, SlimmingPlan
from depthwise.shipping.stages.judging import data_key
from depthwise.shipping.state import hash_files, make_key, work_folder
from depthwise.slimming.request import SlimmingRequest
from depthwise.slimming.slim import Slimming
from depthwise.sources.slimmed_folder import open_slimmed
from depthwise.sources.spec import SLIMMED
from depthwise.training.calibration_data import loose_images
from depthwise.training.data.dataset import Dataset

FOLDER = "slimmed"


def slim_network(
    request: Request, network: CurrentNetwork, _: Report
) -> tuple[SlimmingStageRecord, CurrentNetwork]:
    """Slim a network to the request's budget; a slimming that was interrupted goes on.

    Raises what `dw.slim` raises.
    """
    plan = request.slim
    assert plan
    if network.untrained:
        request.say(
            f"the weights of {request.name} are random: slimming keeps what a network knows, and "
            "it knows nothing yet; name its --weights, or have it trained before (--train 1h)"
        )
    folder = work_folder(
        request.directory, FOLDER, make_key(network.digest, slimming_key(request, network))
    )
    slimming = Slimming(SlimmingRequest(network.source, plan.budget, plan.data, plan.options),
                        folder)  # fmt: skip
    found = slimming.run(request.say)
    if slimming.recovers:
        with request.showing(folder) as onlooker:
            found = slimming.recover(found, onlooker)
            request.say(str(found.record.recovery))
    slimming.save(found)
    return (
        SlimmingStageRecord(found=found.record, network=f"{SLIMMED}{folder}"),
        replace(network, source=open_slimmed(folder)),
    )


def open_again(
    request: Request, network: CurrentNetwork, _: SlimmingStageRecord
) -> CurrentNetwork | None:
    """Return the network that was slimmed in an earlier run; None where it is there no more."""
    try:
        source = open_slimmed(request.directory / STATE / FOLDER)
    except ValueError:
        return None
    return replace(network, source=source)


def slimming_key(request: Request, _: CurrentNetwork) -> list[object]:
    """Return what slimming depends on beside the network, in values that JSON can hold."""
    plan = request.slim
    assert plan
    asked, core = plan.options, request.build
    how = [asked.moves, asked.images, asked.mimic, asked.mirror, asked.recover, asked.seed]
    return [str(plan.budget), how, core.chosen.full_name, str(core.core), _images_key(plan)]


def _images_key(plan: SlimmingPlan) -> list[object]:
    if isinstance(plan.data, Dataset):
        return data_key(plan.data)
    return [] if plan.data is None else [hash_files(tuple(loose_images(Path(plan.data))))]
