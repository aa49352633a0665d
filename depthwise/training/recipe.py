"""How a network is trained: everything that can be chosen, in one typed value."""

import re
import tomllib
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from depthwise.errors import nearest

UNITS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600}
LONGEST = 1e9  # seconds of a training: thirty years
MOST_EPOCHS = 1e6
LARGEST = 8192  # pixels along an image's sides
ALPHAS = 0.001, 100.0  # of Beta(alpha, alpha): beyond them shares are 0 or 1, or 1/2, and no others
TEMPERATURES = 0.01, 100.0
MOST_BRANCHES = 32


def parse_seconds(value: Any) -> Any:
    """Return the seconds of a text such as 90s, 15min or 1.5h; what is no text is left as it is."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*([0-9.]+)\s*([a-z]*)\s*", value)
    try:
        return float(found[1]) * UNITS[found[2] or "s"] if found else _no_time(value)
    except (KeyError, ValueError):
        return _no_time(value)


def _no_time(value: str) -> float:
    raise ValueError(f"{value!r} is no length of time: write 90s, 15min or 2h")


def _check_alpha(value: float) -> float:
    least, most = ALPHAS
    if value and not least <= value <= most:
        raise ValueError(f"0 for none, or an alpha from {least:g} to {most:g} is accepted")
    return value


Seconds = Annotated[float, Field(gt=0, le=LONGEST), BeforeValidator(parse_seconds)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Alpha = Annotated[float, AfterValidator(_check_alpha)]


class Recipe(BaseModel):
    """How a network is trained. What is None is fitted to the data, the network and the machine."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False,
        use_attribute_docstrings=True, validate_default=True,
    )  # fmt: skip

    epochs: Annotated[float, Field(gt=0, le=MOST_EPOCHS)] | None = None
    """How often every image is seen, at most."""
    time: Seconds | None = None
    """How long it may take, as in "15min": the schedule is fitted to it."""
    batch: PositiveInt | None = None
    """Images a step, over all processes."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov's momentum, or AdamW."""
    learning_rate: PositiveFloat | None = None
    """The highest one."""
    momentum: BelowOne = 0.9
    """Of SGD; of AdamW, the decay of the gradients' average."""
    weight_decay: NonNegativeFloat | None = None
    """Of weights; never of biases and normalisations."""
    schedule: Literal["one-cycle", "cosine"] = "one-cycle"
    """How the learning rate moves."""
    warmup: BelowOne = 0.2
    """The share of steps in which the learning rate rises."""
    label_smoothing: BelowOne = 0.1
    """The share of each label that is spread over all classes."""
    average: BelowOne | None = None
    """Decay of the moving average of the weights, which is what is kept; 0 for none."""
    clip: PositiveFloat | None = None
    """The largest norm of all gradients together."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """In what convolutions compute; auto times a few steps of each and takes the fastest."""
    channels_last: bool = True
    """Whether images lie in memory pixel by pixel."""
    compile: bool = False
    """Whether PyTorch compiles the network."""
    resolution: Annotated[int, Field(gt=0, le=LARGEST)] | None = None
    """Pixels along an image's sides, as the network sees it."""
    progressive: PositiveShare = 1.0
    """The resolution that training begins with, as a share of the last one."""
    augment: Literal["none", "light", "rand"] = "light"
    """Nothing; crops, mirroring and light; or crops, mirroring and RandAugment."""
    mirror: bool = True
    """Whether images are mirrored: not where left and right differ, as in letters."""
    mixup: Alpha = 0.0
    """The alpha of MixUp; 0 for none."""
    cutmix: Alpha = 0.0
    """The alpha of CutMix; 0 for none."""
    frozen: Fraction = 0.0
    """The share of the training in which only the classifier of a pretrained network learns."""
    layer_decay: PositiveShare = 1.0
    """How much slower each block of a pretrained network learns than the one after it."""
    branches: Annotated[int, Field(gt=0, le=MOST_BRANCHES)] = 1
    """Convolutions in the place of each while training, added up; one convolution afterwards."""
    quantize: Literal["int8"] | None = None
    """Whether it is computed in eight bits while it learns, and kept so."""
    frozen_norms: Fraction | None = None
    """The share at the end in which the statistics of BatchNorms stand still."""
    teacher: str | None = None
    """A network to learn from, too: a run, imagenet, timm:NAME or NETWORK@CHECKPOINT."""
    teacher_share: Fraction = 0.5
    """The share of the loss that the teacher's scores have; the labels have the rest."""
    temperature: Annotated[float, Field(ge=TEMPERATURES[0], le=TEMPERATURES[1])] = 2.0
    """What the teacher's and the network's scores are divided by when they are compared."""
    feature_share: Fraction = 0.0
    """The share of the loss that the teacher's last feature maps have."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the first weights, the order of images and what is done to them."""

    @field_validator("quantize")
    @classmethod
    def _can_be_rounded(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and info.data.get("branches", 1) > 1:
            raise ValueError(
                "branches are several convolutions, which are rounded apart: train with branches "
                "first, and then the run in eight bits, without (network run:DIRECTORY)"
            )
        if value and info.data.get("compile"):
            raise ValueError(
                "PyTorch's compiler does not take ranges that learn: leave out compile"
            )
        return value

    @field_validator("feature_share")
    @classmethod
    def _shares_fit(cls, value: float, info: ValidationInfo) -> float:
        teacher, other = info.data.get("teacher"), info.data.get("teacher_share", 0.0)
        if value and not teacher:
            raise ValueError("there is no teacher, whose feature maps these would be")
        if teacher and value + other > 1:
            raise ValueError(f"with teacher_share={other} it is above 1, which is the whole loss")
        if teacher and value + other == 0:
            raise ValueError("with teacher_share=0.0 nothing is learned from the teacher")
        return value

    @classmethod
    def read(cls, path: str | PathLike[str], **changes: Any) -> Self:
        """Read a TOML file, whose values `changes` take precedence over.

        Raises ValueError for a file that cannot be read, an unknown name or a bad value.
        """
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"recipe {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"recipe {path}: {error}") from None
        return cls.of(values | changes, f"recipe {path}: ")

    @classmethod
    def of(cls, values: dict[str, Any], where: str = "") -> Self:
        """Return the recipe of values by name. Raises ValueError, which begins with `where`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            if first["type"] == "extra_forbidden":
                known = nearest(name, cls.model_fields)
                raise ValueError(f"{where}there is no {name!r} in a recipe: {known}") from None
            reason = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"{where}{name}={first['input']!r}: {reason}") from None

    def toml(self) -> str:
        """Return the text of the file that `read` reads, a comment with each value."""
        lines = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            lines.append(f"# {field.description}")
            lines.append(f"# {name} =" if value is None else f"{name} = {_toml(value)}")
        return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)
