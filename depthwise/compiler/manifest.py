"""What a saved library says of itself: manifest.json."""

from math import prod
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, NonNegativeInt, PositiveInt, ValidationError

FORMAT = 1
NAME = "manifest.json"


class Record(BaseModel):
    """A part of a file that we write: never changed, and nothing in it that we do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorRecord(Record):
    """An input or output; an output's name is its key or position, empty where it is alone."""

    name: str
    shape: tuple[NonNegativeInt, ...]
    dtype: Literal["float32", "uint8"] = "float32"

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)


class PreparationRecord(Record):
    """What a library does to the raw images it takes: (x - mean) / std, of x in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: Literal["float32", "uint8"]
    layout: Literal["nchw", "nhwc"]


class NetworkRecord(Record):
    """The network: its tensors in order, labels of its scores, how to prepare a photograph.

    `params` counts parameters, `macs` multiply-adds of one call; None where they were not counted.
    `preparation` is what the library does itself to the images it takes, `preprocessing` what
    is to be done before.
    """

    name: str
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    params: int
    macs: int | None = None
    labels: tuple[str, ...] = ()
    preprocessing: dict[str, JsonValue] | None = None
    preparation: PreparationRecord | None = None


class BuildRecord(Record):
    """The target's name, the compiler as it names itself, its flags, and what it built."""

    target: str
    compiler: str
    flags: tuple[str, ...]
    threads: PositiveInt = 1
    library_sha256: str


class MemoryRecord(Record):
    """Bytes of the arena that a caller brings, and of the weights with their SHA-256."""

    arena_bytes: NonNegativeInt
    weights_bytes: NonNegativeInt
    weights_sha256: str


class LayerError(Record):
    """The largest error of one value of the network, relative to that value's largest element."""

    path: str
    value: str
    error: float


class Verification(Record):
    """The library against PyTorch: sets of inputs tried, largest error relative to the outputs.

    `own_error` is that of PyTorch's float32 against its float64, looked at only where `error` is
    above the tolerance: a network may be so sensitive that no float32 is closer.
    """

    inputs: int
    error: float
    own_error: float | None = None
    layers: tuple[LayerError, ...] = ()


class PlanCheck(Record):
    """The plan of a library that its maker could not run: `steps` done in Python, each compared."""

    steps: int


class Manifest(Record):
    """All that a program needs to know to run a saved library, and where it comes from.

    `verification` is what the library computed itself; where it could not be run, `plan_check` says
    that its plan was done in Python, and compared with the network.
    `report` names the file beside it that holds what was measured, where anything was.
    """

    format: Literal[1] = FORMAT
    depthwise: str
    network: NetworkRecord
    build: BuildRecord
    memory: MemoryRecord
    verification: Verification | None = None
    plan_check: PlanCheck | None = None
    report: str | None = None

    @property
    def unproven(self) -> str:
        """What to say of a library that this machine cannot run."""
        if self.plan_check:
            return "not run here; its plan checked step by step in Python"
        return "not verified, for this machine cannot run it"


def read_manifest(directory: Path) -> Manifest:
    """Read manifest.json. Raises ValueError where there is none, or one that we do not know."""
    path = directory / NAME
    if not path.is_file():
        raise ValueError(
            f"{directory} holds no saved library: there is no {NAME} in it, such as "
            "Library.save(directory) writes"
        )
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(
            f"{path}: {where}: {first['msg']}; save the library again with this version of "
            "depthwise"
        ) from None
