"""A network with its weights, and the record that says how to use them."""

from functools import cache
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from torch import nn

from depthwise.families.registry import construct, find_network
from depthwise.files.record import first_fault
from depthwise.weights.load import load_weights
from depthwise.weights.preprocessing import Preprocessing
from depthwise.weights.read import read_metadata, split_key

DATA = Path(str(files("depthwise") / "data"))
IMAGENET = {"mobilenet_v2": DATA / "mobilenet_v2.safetensors"}
PHOTOGRAPHS = (DATA / "chelsea.jpg", DATA / "coffee.jpg")
METADATA = "depthwise"  # the one metadata key: safetensors writes several in any order


class WeightsRecord(Protocol):
    """How to use weights."""

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to an image before the network sees it."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' names in the order of the scores."""
        ...


class Pretrained(BaseModel):
    """Where weights come from and how to use them; stands as JSON in the weights' own file.

    `labels` names the file in depthwise/data that holds the names of the classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    sha256: str
    licence: str
    preprocessing: Preprocessing
    labels: str
    num_classes: int

    @model_validator(mode="after")
    def _labels_fit(self) -> Self:
        if len(self.class_names) != self.num_classes:
            raise ValueError(f"{self.labels} does not name {self.num_classes} classes")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' names in the order of the scores."""
        return read_labels(self.labels)


def find_pretrained(net: object) -> Pretrained | None:
    """Return what `build` recorded of a network's weights; None for every other network."""
    found = getattr(net, "pretrained", None)  # networks of others have flags of that name
    return found if isinstance(found, Pretrained) else None


@cache
def read_labels(name: str) -> tuple[str, ...]:
    """Return the lines of depthwise/data/`name`. Raises ValueError where there is no such file."""
    path = DATA / Path(name).name
    if not path.is_file():
        raise ValueError(f"no file of labels is named {name!r}")
    return tuple(path.read_text(encoding="utf-8").splitlines())


def read_record(path: Path) -> Pretrained | None:
    """Return the record in a safetensors file, None where it has none.

    Raises ValueError for a record that is damaged.
    """
    text = read_metadata(path).get(METADATA)
    if text is None:
        return None
    try:
        return Pretrained.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{path}: bad record of its weights, {first_fault(error)}") from None


def create_model(
    name: str, weights: str | PathLike[str] | None = None, **options: Any
) -> nn.Module:
    """Create a network of ours.

    Args:
        name: One of `list_models()`.
        weights: "imagenet" for the bundled weights, or the path of a checkpoint, as `load_weights`
            takes it; None leaves the weights random.
        **options: Options of the network, such as `width` and `num_classes`; `depthwise networks`
            lists them.

    Returns:
        The network, in training mode. Its `pretrained` says how pictures were prepared for the
        weights and what the classes are called; it is None where the weights record nothing. Its
        `loaded_weights`, where there are any, says which key of the checkpoint was taken.

    Raises:
        ValueError: A name or an option that is not known, or weights that do not fit.
    """
    if weights == "imagenet" and find_network(name).name not in IMAGENET:
        raise ValueError(
            f"no ImageNet weights of {name} are bundled, only of {', '.join(IMAGENET)}: "
            "give weights the path of a checkpoint"
        )
    net = construct(name, **options)
    record = None
    if weights is not None:
        source = IMAGENET[name] if weights == "imagenet" else weights
        try:
            net.loaded_weights = load_weights(net, source)  # type: ignore[assignment]
        except ValueError as error:
            if weights != "imagenet" or not options:
                raise
            given = ", ".join(f"{option}={value!r}" for option, value in options.items())
            raise ValueError(
                f'weights="imagenet" fit {name} with its default shapes, not with {given}: '
                f"leave out weights, or the options that change shapes\n{error}"
            ) from None
        record = read_record(split_key(source)[0])
    net.pretrained = record  # type: ignore[assignment]  (nn.Module types its attributes as modules)
    return net
