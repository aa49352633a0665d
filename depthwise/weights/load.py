"""Weights into a network: our own names, or torchvision's or timm's, all or nothing."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from depthwise.weights.labels import KEYS
from depthwise.weights.layouts import LAYOUTS
from depthwise.weights.layouts.layout import CheckpointLayout
from depthwise.weights.read import read_checkpoint, unwrap

OWN = CheckpointLayout("own", ())
SHOWN = 4  # problems that an error message spells out
COUNTER = "num_batches_tracked"  # training's own counter: older checkpoints lack it

CheckpointSource = str | PathLike[str] | Mapping[str, Any]


class Fit(NamedTuple):
    """How one layout's reading of a checkpoint meets a network: our name -> their name."""

    layout: CheckpointLayout
    names: dict[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Every reason why the checkpoint does not fit, one line each."""
        missing = tuple(f"{name}: missing in the checkpoint" for name in self.missing)
        return (*self.wrong, *missing, *(f"{key}: no such tensor here" for key in self.unexpected))


def load_weights(net: nn.Module, source: CheckpointSource) -> None:
    """Copy weights from a checkpoint into a network, which keeps its own element types.

    Where the checkpoint's BatchNorms have another epsilon than ours, the running variances are
    shifted by the difference, so that variance + epsilon, and with it the output, stays the same.

    Args:
        net: The network to load into; it is left as it was where anything does not fit.
        source: The path of a .safetensors file or of one that torch.save wrote, or a state dict;
            tensors are named as ours, or as torchvision or timm names those of this network.

    Raises:
        ValueError: The file cannot be read, or a tensor is missing, unknown or of another shape.
    """
    targets = net.state_dict()
    if isinstance(source, Mapping):
        origin, checkpoint = "the state_dict", source
    elif isinstance(source, str | PathLike):
        origin, checkpoint = str(source), read_checkpoint(Path(source))
    else:
        raise ValueError(f"weights from {type(source).__name__}: give a path or a state_dict")
    tensors = unwrap(_without_labels(checkpoint), set(targets))
    _check_entries(origin, tensors)
    if meta := next((name for name, tensor in targets.items() if tensor.is_meta), None):
        raise ValueError(f"{meta} is on the meta device: call net.to_empty(device='cpu') first")

    network = str(getattr(net, "network", type(net).__name__))
    fits = [_fit(layout, tensors, targets) for layout in (OWN, *LAYOUTS.get(network, ()))]
    best = min(fits, key=lambda fit: len(fit.problems))
    if best.problems:
        raise ValueError(_misfit(origin, network, fits, best, tensors, targets))
    values = {
        ours: tensors[theirs].reshape(targets[ours].shape) for ours, theirs in best.names.items()
    }
    if best.layout.batchnorm_eps is not None:
        _shift_variances(net, values, best.layout.batchnorm_eps)
    net.load_state_dict({**{name: targets[name] for name in targets if COUNTER in name}, **values})


def _without_labels(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a checkpoint without the names of classes that may stand beside its tensors."""
    return {
        key: value for key, value in checkpoint.items()
        if str(key).lower() not in KEYS or isinstance(value, Tensor)
    }  # fmt: skip


def _check_entries(origin: str, tensors: Mapping[str, Any]) -> None:
    for key, value in tensors.items():
        if not isinstance(key, str):
            raise ValueError(f"{origin}: entry {key!r}: expected a name")
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{origin}: entry {key!r} is of type {type(value).__name__}: expected a tensor"
            )
        if value.is_meta or value.is_quantized or value.layout != torch.strided:
            kind = "a meta" if value.is_meta else "a quantized or sparse"
            raise ValueError(f"{origin}: entry {key!r} is {kind} tensor: expected a dense one")


def _fit(
    layout: CheckpointLayout, tensors: Mapping[str, Tensor], targets: Mapping[str, Tensor]
) -> Fit:
    names: dict[str, str] = {}
    unexpected, wrong = [], []
    for theirs, ours in layout.translate(tensors).items():
        if ours not in targets:
            unexpected.append(theirs)
        elif ours in names:
            wrong.append(f"{ours}: both {names[ours]} and {theirs} give it")
        else:
            names[ours] = theirs
    for ours in targets:
        if theirs := names.get(ours):
            wrong += _compare(ours, targets[ours], theirs, tensors[theirs])
    missing = [name for name in targets if name not in names and not name.endswith(COUNTER)]
    return Fit(layout, names, tuple(missing), tuple(unexpected), tuple(wrong))


def _compare(ours: str, expected: Tensor, theirs: str, found: Tensor) -> list[str]:
    where = ours if ours == theirs else f"{ours} (there {theirs})"
    if expected.is_floating_point() != found.is_floating_point():
        return [f"{where}: expected {expected.dtype}, found {found.dtype}"]
    if not _holds_the_same(expected, found):
        return [f"{where}: expected {_shape(expected)}, found {_shape(found)}"]
    return []


def _holds_the_same(ours: Tensor, theirs: Tensor) -> bool:
    """Tell whether the shapes agree; a linear layer (K, CHW) is a convolution (K, C, H, W)."""
    if {ours.ndim, theirs.ndim} == {2, 4}:
        return ours.flatten(1).shape == theirs.flatten(1).shape
    return ours.shape == theirs.shape


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _shift_variances(net: nn.Module, values: dict[str, Tensor], eps: float) -> None:
    for name, module in net.named_modules():
        key = f"{name}.running_var"
        if isinstance(module, nn.BatchNorm2d) and key in values:
            values[key] = values[key].double() + (eps - module.eps)


def _misfit(
    origin: str, network: str, fits: list[Fit], best: Fit, tensors: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
) -> str:  # fmt: skip
    problems = best.problems
    count = "1 tensor differs" if len(problems) == 1 else f"{len(problems)} tensors differ"
    lines = [f"{origin} does not fit {network}, {count}:"]
    lines += [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  and {len(problems) - SHOWN} more")
    tried = ", ".join(fit.layout.name for fit in fits)
    lines.append(f"layouts tried: {tried}; the nearest is {best.layout.name}")
    if classes := _other_classes(best, tensors, targets):
        lines.append(f"the checkpoint has {classes} classes: build with num_classes={classes}")
    return "\n".join(lines)


def _other_classes(
    fit: Fit, tensors: Mapping[str, Tensor], targets: Mapping[str, Tensor]
) -> int | None:
    """Return the checkpoint's number of classes, where its last layer differs in that alone."""
    head = [name for name in targets if name.endswith(".weight") and targets[name].ndim > 1][-1:]
    if not head or head[0] not in fit.names:
        return None
    found = tensors[fit.names[head[0]]].flatten(1).shape
    expected = targets[head[0]].flatten(1).shape
    return found[0] if found[0] != expected[0] and found[1:] == expected[1:] else None
