"""What a training leaves, as a network: run.json, the weights, and what builds it again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from depthwise import __version__
from depthwise.files.record import first_fault
from depthwise.graph import NO_KWARGS, Graph, open_graph
from depthwise.graph.exporters.torch import to_module
from depthwise.quantization.insertion import Encoding, insert_quantization
from depthwise.quantization.trainable import in_integers, learned, to_trainable
from depthwise.sources.building import build
from depthwise.sources.heads import replace_head
from depthwise.sources.quantized_folder import QuantizedRecord, quantized_source
from depthwise.sources.source import Source, graph_source, torch_source
from depthwise.sources.spec import GRAPHS, RECORD, RUN, is_run, parse_spec
from depthwise.weights import Preprocessing, load_weights

BEST, LAST, GRAPH = "best.safetensors", "last.safetensors", "network.safetensors"
BEGUN = "begun.safetensors"  # the graph that a run began with, where no name builds it again
FORMAT = 1
MOMENTUM = 0.1  # of BatchNorms, at least: 0.01, as MobileNetV3's paper has it, takes 500 steps


class RunRecord(BaseModel):
    """What a run is of: run.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    depthwise: str = __version__
    network: str
    """What the user calls the network, as `dw.open` takes it; a class where `module` is true."""
    settings: dict[str, Any]
    """The network's options, as the user gave them and as they were fitted to the images."""
    module: bool = False
    """Whether the network was given as a module, which its own program alone can build again."""
    weights: str
    """What the first weights are called; empty for random ones."""
    data: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    images: dict[str, int]
    """How many there are in each split."""
    recipe: str = ""
    """The hash of recipe.toml, which may not be changed, by `hash_bytes`; empty: not recorded."""
    quantize: str = ""
    """The type that it is computed in while it learns, where it is quantised: int8."""
    kept: tuple[str, ...] = ()
    """Layers that are computed in float32 all the same, by the name of their node."""
    notes: tuple[str, ...] = ()
    """What was found in the data, such as images that are left out."""
    teacher_accuracy: float | None = None
    """The share of the validation images that the teacher names rightly, where it names any."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' names in the order of the scores."""
        return self.classes


def read_run(directory: Path) -> RunRecord:
    """Read what the run in a directory is of.

    Raises ValueError where there is no run, or a damaged one.
    """
    path = directory / RECORD
    if not is_run(directory):
        raise ValueError(f"{directory} is no run: it has no {RECORD}, as `depthwise train` writes")
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        why = first_fault(error)
    except OSError as error:
        why = str(error.strerror)
    raise damaged(path, f"{why} (or another version of depthwise wrote it)")


def damaged(path: Path, why: str) -> ValueError:
    """Return the error for a file of a run that is not as training left it."""
    kept = [each for each in (path.parent / LAST, path.parent / BEST) if each.is_file()]
    weights = f", from weights that it has (--weights {kept[0]})" if kept else ""
    return ValueError(
        f"{path} is damaged: {why}; put a whole copy in its place, or begin a new run{weights}"
    )


def build_again(record: RunRecord, directory: Path, classes: int | None = None) -> nn.Module:
    """Return the network that a run in a directory trains, in training mode.

    Its weights are random, or those that it began with. With its own classes, else so many.
    Raises ValueError where it was given as a module.
    """
    classes = classes or len(record.classes)
    if record.quantize:
        return ready_to_train(to_trainable(begun_graph(directory), frozenset(record.kept)))
    if record.module:
        raise ValueError(
            f"the network of this run was given as a module of class {record.network}: give it "
            "again, as in Run.open(directory).holding(net) or dw.resume(directory, net=net)"
        )
    if parse_spec(record.network).front_end not in GRAPHS:
        return build_classifier(record.network, record.settings, classes)
    return classifier_of_graph(begun_graph(directory), classes)


def begun_graph(directory: Path) -> Graph:
    """Return the graph that a run began with. Raises ValueError where it is missing."""
    if not (directory / BEGUN).is_file():
        raise damaged(directory / BEGUN, "it is not there")
    return open_graph(directory / BEGUN)


def learned_encoding(directory: Path, record: RunRecord, weights: str = BEST) -> Encoding:
    """Return what a run that learns in eight bits has come to, its BatchNorms as they are.

    Raises ValueError where it has no weights yet.
    """
    net = load_trained(directory, build_again(record, directory), weights)
    return learned(begun_graph(directory), net, frozenset(record.kept))


def integers_record(record: RunRecord) -> QuantizedRecord:
    """Return what the quantised network of a run is of."""
    return QuantizedRecord(
        network=record.network, classes=record.classes, preprocessing=record.preprocessing
    )


def integers_of_run(directory: Path, record: RunRecord) -> Graph:
    """Return the best network of a run that learns in eight bits, as one that is quantised.

    Raises ValueError where it has no weights yet.
    """
    return insert_quantization(in_integers(learned_encoding(directory, record)))


def build_classifier(network: str, settings: Mapping[str, Any], classes: int) -> nn.Module:
    """Return the network that a text names, with so many classes, in training mode.

    Raises ValueError for a name or an option that cannot be used.
    """
    spec, options = parse_spec(network), dict(settings)
    if spec.front_end in ("ours", "timm", "torchvision"):
        options.setdefault("num_classes", classes)
    net = build(spec, options)[0]
    replace_head(net, classes)
    return ready_to_train(net)


def classifier_of_graph(graph: Graph, classes: int) -> nn.Module:
    """Return a graph as a module with so many classes, in training mode.

    Raises ValueError where it has no classifier.
    """
    net = to_module(graph)
    replace_head(net, classes)
    return ready_to_train(net)


def ready_to_train(net: nn.Module) -> nn.Module:
    """Return a network in training mode, whose statistics follow within some hundred steps."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.momentum is not None:
            module.momentum = max(module.momentum, MOMENTUM)
    return net.train()


def open_run(
    directory: Path, shapes: Sequence[Any] = (), kwargs: Mapping[str, Any] = NO_KWARGS
) -> Source:
    """Return the network that a run trained, with its best weights, its classes and its images.

    Args:
        directory: Of the run.
        shapes: Of the network's input; left out, one image of the size that it was trained on.
        kwargs: The same by name.

    Raises ValueError where there is no run, or where it has no weights yet.
    """
    record = read_run(directory)
    side = record.preprocessing.crop
    if record.quantize:
        graph = integers_of_run(directory, record)
        return replace(
            quantized_source(graph, integers_record(record), shapes, kwargs), known=record
        )
    if record.module:
        path = directory / GRAPH
        if not path.is_file():
            raise ValueError(
                f"{directory} has no {GRAPH}, which is written when its training ends or is "
                f"stopped: go on with it, as in dw.resume({str(directory)!r}, net=...)"
            )
        opened: Source = graph_source(open_graph(path), shapes, kwargs, record.network)
    else:
        net = load_trained(directory, build_again(record, directory))
        given = shapes if shapes or kwargs else [(1, 3, side, side)]
        opened = torch_source(net, given, kwargs)
    return replace(opened, known=record)


def load_trained(directory: Path, net: nn.Module, weights: str = BEST) -> nn.Module:
    """Load the best weights of a run, or others, into its network; return it in evaluation mode.

    Raises ValueError where the run has none yet, or these are not the network's.
    """
    path = directory / weights
    if not path.is_file():
        raise ValueError(
            f"{directory} has no weights yet: {RUN} takes a run whose first epoch is over; go on "
            f"with it (depthwise train --resume {directory})"
        )
    load_weights(net, path)
    return net.eval()
