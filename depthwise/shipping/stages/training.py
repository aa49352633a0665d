"""Train: a network fitted to the request's labelled images, before all else is done to it."""

from dataclasses import replace

from depthwise.report.changed_record import TrainingStageRecord
from depthwise.report.record import Report
from depthwise.runtime.artifact import STATE
from depthwise.shipping.network import CurrentNetwork
from depthwise.shipping.request import Request
from depthwise.shipping.stages.judging import data_key
from depthwise.shipping.state import make_key, work_folder
from depthwise.sources.opening import open
from depthwise.sources.spec import RUN, is_run
from depthwise.training import Recipe, resume, train

FOLDER = "training"


def train_network(
    request: Request, network: CurrentNetwork, _: Report
) -> tuple[TrainingStageRecord, CurrentNetwork]:
    """Train a network for as long as is requested; a training that was interrupted goes on.

    Raises what `dw.train` raises.
    """
    assert request.data is not None
    recipe = Recipe.of({"time": request.train, "resolution": request.resolution})
    key = make_key(network.digest, training_key(request, network))
    folder = work_folder(request.directory, FOLDER, key)
    with request.showing(folder) as onlooker:
        if is_run(folder):
            run = resume(folder, request.data, onlooker=onlooker)
        else:
            run = train(
                request.name, request.data, recipe, directory=folder,
                settings=request.settings, weights=request.weights or None, onlooker=onlooker,
            )  # fmt: skip
    result = run.result
    assert result is not None
    record = TrainingStageRecord(
        data=request.data.name, seconds=result.seconds, epoch=result.epoch,
        validation=result.validation, test=result.test,
    )  # fmt: skip
    trained = open_again(request, network, record)
    assert trained is not None
    return record, trained


def open_again(
    request: Request, network: CurrentNetwork, _: TrainingStageRecord
) -> CurrentNetwork | None:
    """Return the network that was trained in an earlier run; None where it is there no more."""
    try:
        source = open(f"{RUN}{request.directory / STATE / FOLDER}")
    except ValueError:
        return None
    return replace(network, source=source, untrained=False, labels=())  # it has the images' classes


def training_key(request: Request, _: CurrentNetwork) -> list[object]:
    """Return what training depends on beside the network, in values that JSON can hold."""
    how = [request.train, request.resolution, request.name, request.settings, request.weights]
    return [*how, data_key(request.data)]
