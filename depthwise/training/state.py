"""What a run needs to go on where it was killed: tensors and numbers in one file, whole or not."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from depthwise.files.atomic import WRITING, flush, workspace
from depthwise.files.record import first_fault
from depthwise.sources.run_folder import damaged

FILE = "state.safetensors"
NUMBERS = "depthwise.training"  # the key of the file's metadata


class Progress(BaseModel):
    """How far a run is. What a network computes depends on these numbers and the tensors alone."""

    model_config = ConfigDict(extra="forbid")

    step: int = 0
    seconds: float = 0.0
    """Of training and judging, in all sessions."""
    decisions: Sequence[tuple[int, int]] = Field(default_factory=list)
    """From which step on how many steps were to be done, where time is limited: see `TimeFit`."""
    epoch: int = 0
    """Epochs that are over."""
    loss_sum: float = 0.0
    """Of the steps of this epoch."""
    loss_steps: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = 0
    scale: float = 1.0
    """What losses are multiplied by in float16."""
    since_overflow: int = 0
    """How many steps there were since the scale changed."""
    parts: int = 1
    """Into how many parts a batch is divided, so that it fits the device's memory."""
    history_bytes: int = 0
    """How long history.jsonl is."""


def save_state(directory: Path, progress: Progress, tensors: Mapping[str, Tensor]) -> None:
    """Write the state of a run. Raises OSError where it cannot be written."""
    save_tensors(directory / FILE, tensors, {NUMBERS: progress.model_dump_json()})


def read_state(directory: Path) -> tuple[Progress, dict[str, Tensor]] | None:
    """Return what `save_state` wrote last; None where nothing was.

    Raises ValueError for a file that is damaged.
    """
    path = directory / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            progress = Progress.model_validate_json((file.metadata() or {})[NUMBERS])
            return progress, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except ValidationError as error:
        raise damaged(path, first_fault(error)) from None
    except (SafetensorError, KeyError, OSError) as error:
        raise damaged(path, str(error)) from None


def check_weights(path: Path) -> None:
    """Raise ValueError where a file of weights that a run wrote is missing or cut short."""
    try:
        with safe_open(path, "pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise damaged(path, str(error)) from None


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a .safetensors file whole, or leave what was there.

    Raises OSError where it cannot be written.
    """
    owned = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    with workspace(path.parent, WRITING) as folder:
        new = folder / "new"
        try:
            save_file(owned, new, metadata)
        except SafetensorError as error:  # of a full disk, too
            raise OSError(None, str(error), str(path)) from None
        flush(new)
        new.replace(path)


def gather(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the tensors of a network and of its optimizer, by name."""
    named = dict(optimizer_tensors(net, optimizer))
    return {f"net.{name}": tensor for name, tensor in net.state_dict().items()} | named


@torch.no_grad()
def restore(net: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `gather` returned. Raises ValueError where it is of another network."""
    own, saved = net.state_dict(), part(tensors, "net.")
    different = sorted(own.keys() ^ saved.keys()) or [
        name for name, tensor in own.items() if tensor.shape != saved[name].shape
    ]
    if different:
        raise ValueError(
            f"the state that was saved is of another network: see {', '.join(different[:3])}; give "
            "the network as it was when the run began"
        )
    net.load_state_dict(saved)
    parameters = dict(net.named_parameters())
    for key, tensor in part(tensors, "optimizer.").items():
        name, _, entry = key.rpartition(".")
        parameter = parameters[name]
        fits = tensor.shape == parameter.shape  # then it is to lie in memory as the parameter does
        kept = torch.empty_like(parameter).copy_(tensor) if fits else tensor
        optimizer.state[parameter][entry] = kept


def optimizer_tensors(
    net: nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[str, Tensor]]:
    """Yield what an optimizer keeps of each parameter, as in optimizer.stem.weight.exp_avg."""
    for name, parameter in net.named_parameters():
        for entry, tensor in optimizer.state.get(parameter, {}).items():
            if isinstance(tensor, Tensor):
                yield f"optimizer.{name}.{entry}", tensor


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
