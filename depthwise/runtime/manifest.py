"""What a saved library says of itself: manifest.json, and how we know that we wrote it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    Field,
    JsonValue,
    PositiveInt,
    ValidationError,
    model_validator,
)

from depthwise.files.record import Record, first_fault
from depthwise.graph.dtypes import FLOAT32, LIBRARY_DTYPES, DType, find_dtype
from depthwise.graph.structure import Signature, decode_signature, usual_signature
from depthwise.runtime.target import System, Target, find_target

FORMAT = 1
NAME = "manifest.json"
REPORT, FIGURES = "report.html", "report.json"
MOST_BYTES = 64 * 2**20  # of a manifest: the largest ones have 100 KB
SLOWER = "slower"  # than the precision that was chosen
MOST_AXES = 64  # that an array of NumPy has

Size = Annotated[int, Field(ge=0, le=2**48)]  # more than any memory holds
ElementType = Annotated[str, Field(pattern=f"^({'|'.join(LIBRARY_DTYPES)})$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class TensorRecord(Record):
    """An input or output; an output's name is its path: "boxes.0", empty where it is alone."""

    name: str
    shape: Annotated[tuple[Size, ...], Field(max_length=MOST_AXES)]
    dtype: ElementType = "float32"

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """The bytes that the elements take."""
        return self.size * find_dtype(self.dtype).bytes


def common_element(tensors: Sequence[TensorRecord]) -> DType | None:
    """Return the element type that all tensors have, None where they have several."""
    names = {tensor.dtype for tensor in tensors} or {FLOAT32.name}
    return find_dtype(names.pop()) if len(names) == 1 else None


class PreparationRecord(Record):
    """What a library does to the raw images it takes: (x - mean) / std, of x in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: ElementType
    layout: Literal["nchw", "nhwc"]


class NetworkRecord(Record):
    """The network: its tensors in order, labels of its scores, how to prepare a photograph.

    `params` counts parameters, `macs` multiply-adds of one call; None where they were not counted.
    `preparation` is what the library does itself to the images it takes, `preprocessing` what
    is to be done before. `structure` says how the inputs are given and what the outputs are
    returned in (`graph.structure`); None where that follows from their names, as it does in
    manifests of earlier versions. `precisions` are the types other than float32 that the network
    has for floating numbers, of weights or inside; its library computes in float32 all the same.
    """

    name: str
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    structure: dict[str, JsonValue] | None = None
    params: int
    macs: int | None = None
    labels: tuple[str, ...] = ()
    preprocessing: dict[str, JsonValue] | None = None
    preparation: PreparationRecord | None = None
    precisions: tuple[str, ...] = ()

    @cached_property
    def signature(self) -> Signature:
        """What a call takes and returns. Raises ValueError where `structure` does not fit."""
        inputs, outputs = ([e.name for e in side] for side in (self.inputs, self.outputs))
        if self.structure is None:
            return usual_signature(inputs, outputs)
        return decode_signature(self.structure, inputs, outputs)

    @property
    def is_float32(self) -> bool:
        """Whether its inputs, its outputs and the floating numbers inside are of float32."""
        ends = (*self.inputs, *self.outputs)
        return not self.precisions and all(e.dtype == FLOAT32.name for e in ends)

    @model_validator(mode="after")
    def _check_structure(self) -> Self:
        _ = self.signature
        return self


class LayerRange(Record):
    """A layer that is computed in float32 since a narrower type would not hold a number of it.

    `largest` is the size of that number: one of its weights, or one that it takes, gives or might
    have in a sum on the inputs that were tried. Where all numbers of one of these are too small, so
    that few or no digits would be left, it is the largest of them.
    """

    path: str
    value: str
    largest: float


class BuildRecord(Record):
    """The target's name, the compiler as it names itself, its flags, and what it built.

    `system` is the operating system, None for the usual one of the target; `tuned_for` the core
    that the plan was made for, and why; empty in earlier manifests. `precision` is the type of
    weights and of values between layers, int8 of a quantised network's, but of those `kept` in
    float32; `stored_weights` that of the weights of layers that wait for them.
    """

    target: str
    system: System | None = None
    compiler: str
    flags: tuple[str, ...]
    threads: PositiveInt = 1
    tuned_for: str = ""
    precision: Literal["float32", "bfloat16", "float16", "int8"] = "float32"
    kept: tuple[LayerRange, ...] = ()
    stored_weights: Literal["float32", "float16"] = "float32"
    library_bytes: Size | None = None  # of code; earlier versions did not say
    library_sha256: Sha256

    @property
    def chosen(self) -> Target:
        """The target itself. Raises ValueError for a name that is none."""
        return find_target(self.target, self.system)


class MemoryRecord(Record):
    """Bytes of the arena that a caller brings, and of the weights with their SHA-256."""

    arena_bytes: Size
    weights_bytes: Size
    weights_sha256: Sha256


class LayerError(Record):
    """The largest error of one value of the network, relative to that value's largest element."""

    path: str
    value: str
    error: float


class Distance(Record):
    """A library of a narrow precision against its network in float32.

    The largest error of an output, relative to its largest element, over sets of `inputs`; and in
    how many of the rows of scores the same one is the highest, None where no output has scores.
    """

    reference: str
    inputs: int
    error: float
    agreement: float | None = None


class Verification(Record):
    """The library against its reference: sets of inputs tried, largest error against the outputs.

    `own_error` is that of the reference's float32 against its float64, looked at only where `error`
    is above the tolerance: a network may be so sensitive that no float32 is closer. A library of a
    narrow precision is compared with a simulator of its arithmetic; `distance` is from float32.
    """

    inputs: int
    error: float
    own_error: float | None = None
    layers: tuple[LayerError, ...] = ()
    reference: str = "PyTorch"  # who computed what the library was compared with
    distance: Distance | None = None

    @property
    def summary(self) -> str:
        """What was found, as a part of a sentence."""
        within = f"within {self.error:.1e} of the largest output" if self.error else "to the bit"
        found = f"equal to {self.reference} {within}"
        if distance := self.distance:
            found += f", {distance.error:.1%} from {distance.reference} in float32"
        return found


class CandidateRecord(Record):
    """A precision that was tried: milliseconds of a run, in turns with the others', and agreement.

    `error` is the largest difference from the library in float32, of its largest output. `left_out`
    says why it was not tried to the end, or not chosen; empty for the one that was.
    """

    precision: str
    target: str = ""
    milliseconds: float | None = None
    agreement: float | None = None
    error: float | None = None
    left_out: str = ""


class PrecisionChoice(Record):
    """How a precision was chosen: the fastest of those that keep the class of so many `images`.

    `disturbed` says what disturbed the timing; empty where it can be trusted.
    """

    agreement: float
    images: str
    candidates: tuple[CandidateRecord, ...]
    disturbed: str = ""

    @property
    def chosen(self) -> CandidateRecord:
        """The one that was taken."""
        return next(each for each in self.candidates if not each.left_out)

    def __str__(self) -> str:
        """Return what was chosen, and why, in a sentence."""
        best = self.chosen.precision
        if best != FLOAT32.name:
            why = "the fastest that keeps the class"
        elif any(each.left_out == SLOWER for each in self.candidates):
            why = "none is faster that keeps the class"
        else:
            why = "no other keeps the class"
        doubt = f"; the times cannot be trusted: {self.disturbed}" if self.disturbed else ""
        return f"computed in {best}: {why} for {self.agreement:.2%} of {self.images}{doubt}"


class PlanCheck(Record):
    """The plan of a library that its maker could not run: `steps` done in Python, each compared."""

    steps: int


class LevelRecord(Record):
    """One of the CPUs that a library for a family has code for, and what was proven of that."""

    target: str
    verification: Verification | None = None
    plan_check: PlanCheck | None = None


class Manifest(Record):
    """All that a program needs to know to run a saved library, and where it comes from.

    `verification` is what the library computed itself; where it could not be run, `plan_check` says
    that its plan was done in Python, and compared with the network. Of a library for a family of
    CPUs both are those of the widest level that was run, and `levels` has those of each.
    `choice` is how the precision was chosen, where it was left to us. `report` names the file
    beside it that holds what was measured, where anything was.
    """

    format: Literal[1] = FORMAT
    depthwise: str
    network: NetworkRecord
    build: BuildRecord
    memory: MemoryRecord
    verification: Verification | None = None
    plan_check: PlanCheck | None = None
    levels: tuple[LevelRecord, ...] = ()
    choice: PrecisionChoice | None = None
    report: Literal["report.json"] | None = None

    @property
    def unproven(self) -> str:
        """What to say of a library that this machine cannot run."""
        if self.plan_check:
            return "not run here; its plan checked step by step in Python"
        return "not verified, for this machine cannot run it"


class Seal(Record):
    """By what a directory is known as ours: SHA-256 of each file that we wrote to it.

    `manifest` is that of the rest of manifest.json.
    """

    manifest: Sha256
    files: dict[str, Sha256]


class Sealed(Manifest):
    """The whole of manifest.json; earlier versions wrote no seal."""

    seal: Seal | None = None


class Saved(NamedTuple):
    """A manifest.json that was read; `edited` tells that it is not as we wrote it."""

    manifest: Manifest
    seal: Seal | None
    edited: bool = False


def read_saved(directory: Path) -> Saved:
    """Read manifest.json with its seal.

    Raises ValueError where there is none, or one that we do not know.
    """
    path = directory / NAME
    if not path.is_file():
        raise ValueError(
            f"{directory} holds no saved library: there is no {NAME} in it, such as "
            "Library.save(directory) writes"
        )
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path} has over {MOST_BYTES} bytes: no manifest of ours has as many")
    try:
        sealed = Sealed.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(
            f"{path}: {first_fault(error)}; save the library again with this version of depthwise"
        ) from None
    manifest = Manifest.model_validate(sealed.model_dump(exclude={"seal"}))
    if sealed.seal is None:
        return Saved(manifest, None)
    body = json.loads(content)
    del body["seal"]
    edited = _digest(body) != sealed.seal.manifest
    return Saved(manifest, sealed.seal, edited)


def sealed_text(manifest: Manifest, files: Mapping[str, str]) -> str:
    """Return manifest.json of a directory that holds these `files`, by the SHA-256 of each."""
    body = json.loads(manifest.model_dump_json())
    seal = Seal(manifest=_digest(body), files=dict(sorted(files.items())))
    return json.dumps({**body, "seal": seal.model_dump()}, indent=2) + "\n"


def _digest(body: dict[str, Any]) -> str:
    """Return a hash of a manifest's values, however they are laid out in its file."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
