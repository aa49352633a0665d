"""Weights into a network: our own names, or torchvision's or timm's, all or nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from os import PathLike
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from depthwise.weights.labels import KEYS
from depthwise.weights.layouts import LAYOUTS
from depthwise.weights.layouts.layout import CheckpointLayout
from depthwise.weights.read import read_checkpoint, split_key
from depthwise.weights.wrappings import (
    Candidate,
    as_tensors,
    candidates,
    holding_tensors,
    holds_average,
)

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

    def without(self, spared: Sequence[str]) -> "Fit":
        """Return the same for a network that keeps some of its own tensors."""
        names = {ours: theirs for ours, theirs in self.names.items() if ours not in spared}
        missing = tuple(name for name in self.missing if name not in spared)
        wrong = tuple(text for text in self.wrong if not text.startswith(tuple(spared)))
        return self._replace(names=names, missing=missing, wrong=wrong)

    @property
    def problems(self) -> tuple[str, ...]:
        """Every reason why the checkpoint does not fit, one line each."""
        missing = tuple(
            f"{name}: missing in the checkpoint{self._near(name)}" for name in self.missing[:SHOWN]
        )
        missing += tuple(f"{name}: missing in the checkpoint" for name in self.missing[SHOWN:])
        return (*self.wrong, *missing, *(f"{key}: no such tensor here" for key in self.unexpected))

    def _near(self, name: str) -> str:
        near = get_close_matches(name, self.unexpected, 1, 0.6)
        return f", where {near[0]} is the nearest" if near else ""


@dataclass(frozen=True)
class LoadedWeights:
    """What was taken from a checkpoint.

    Attributes:
        origin: The file, or "the state_dict".
        key: The keys and prefixes under which the weights were, as in state_dict.module; empty
            where they stand alone.
        others: Further keys under which weights that fit are: FILE#KEY takes them.
        left_out: Names of tensors that are of something else, under other prefixes.
        layout: Whose names the tensors have: "own", "torchvision", "timm".
        unfit: Further keys, under which averages (EMA) are that do not fit the network, since they
            are of its parameters alone, say.
    """

    origin: str
    key: str
    others: tuple[str, ...]
    left_out: tuple[str, ...]
    layout: str
    unfit: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it as a sentence for a person."""
        parts = [f"weights are {self.key or 'the tensors'} of {self.origin}"]
        if self.others:
            parts.append(f"there are {', '.join(self.others)} too: choose with FILE#KEY")
        if self.unfit:
            parts.append(
                f"the average under {', '.join(self.unfit)} does not fit, and is not taken"
            )
        if self.left_out:
            parts.append(
                f"{len(self.left_out)} tensors beside them are left out: "
                f"{', '.join(self.left_out[:SHOWN])}{', ...' if self.left_out[SHOWN:] else ''}"
            )
        return "; ".join(parts)


class CandidateFit(NamedTuple):
    """A part of a checkpoint read as the layout that fits a network best."""

    candidate: Candidate
    tensors: Mapping[str, Tensor]
    fits: list[Fit]

    @property
    def best(self) -> Fit:
        """The layout with the fewest problems."""
        return min(self.fits, key=lambda fit: len(fit.problems))

    def without_head(self, targets: Mapping[str, Tensor]) -> "CandidateFit":
        """Return the same without the last layer, where that is for another number of classes."""
        return self._replace(
            fits=[
                fit.without(_head(targets)) if _other_classes(fit, self.tensors, targets) else fit
                for fit in self.fits
            ]
        )


def load_weights(
    net: nn.Module, source: CheckpointSource, *, other_classes: bool = False
) -> LoadedWeights:
    """Copy weights from a checkpoint into a network, which keeps its own element types.

    They are looked for under the keys of usual training scripts, an average (EMA) before the last
    weights, and without prefixes such as module. that all names of a part bear. Where the
    checkpoint's BatchNorms have another epsilon than ours, the running variances are shifted by the
    difference, so that variance + epsilon, and with it the output, stays the same.

    Args:
        net: The network to load into; it is left as it was where anything does not fit.
        source: The path of a .safetensors file or of one that torch.save wrote, or a state dict;
            tensors are named as ours, or as torchvision or timm names those of this network.
            FILE#KEY takes the weights under a key of the file, as in last.pth#model.
        other_classes: Whether the last layer is left as it is where the checkpoint's is for another
            number of classes, as when a network is to learn new ones.

    Returns:
        Which key was taken, and what else there was.

    Raises:
        ValueError: The file cannot be read, or a tensor is missing, unknown or of another shape.
    """
    targets, key = net.state_dict(), ""
    if isinstance(source, Mapping):
        origin, checkpoint = "the state_dict", source
    elif isinstance(source, str | PathLike):
        path, key = split_key(source)
        origin, checkpoint = str(path), read_checkpoint(path)
    else:
        raise ValueError(f"weights from {type(source).__name__}: give a path or a state_dict")
    if meta := next((name for name, tensor in targets.items() if tensor.is_meta), None):
        raise ValueError(f"{meta} is on the meta device: call net.to_empty(device='cpu') first")

    network = str(getattr(net, "network", type(net).__name__))
    layouts = (OWN, *LAYOUTS.get(network, ()))
    readings = _read(origin, _without_labels(checkpoint), key, layouts, targets)
    if other_classes:
        readings = [reading.without_head(targets) for reading in readings]
    chosen = min(readings, key=lambda reading: len(reading.best.problems))
    best, tensors = chosen.best, chosen.tensors
    if best.problems:
        raise ValueError(_misfit(origin, network, chosen, targets))
    values = {
        ours: tensors[theirs].reshape(targets[ours].shape) for ours, theirs in best.names.items()
    }
    if best.layout.batchnorm_eps is not None:
        _shift_variances(net, values, best.layout.batchnorm_eps)
    net.load_state_dict(targets | values)
    others = (one.candidate.key for one in readings if one is not chosen and not one.best.problems)
    unfit = (
        one.candidate.key for one in readings
        if one.best.problems and not one.candidate.beside and holds_average(one.candidate.path)
    )  # fmt: skip
    return LoadedWeights(
        origin, chosen.candidate.key, tuple(others), chosen.candidate.beside, best.layout.name,
        () if holds_average(chosen.candidate.path) else tuple(unfit),
    )  # fmt: skip


def _read(
    origin: str, checkpoint: Mapping[Any, Any], key: str, layouts: Sequence[CheckpointLayout],
    targets: Mapping[str, Tensor],
) -> list[CandidateFit]:  # fmt: skip
    """Return each part of a checkpoint that may be the weights, as each layout reads it."""
    found = candidates(checkpoint, key)
    readings = []
    for candidate in found:
        tensors = as_tensors(candidate.entries)
        try:
            _check_entries(origin, tensors)
        except ValueError:
            if len(found) == 1:
                raise
            continue
        fits = [_fit(layout, tensors, targets) for layout in layouts]
        readings.append(CandidateFit(candidate, tensors, fits))
    if readings:
        return readings
    if not checkpoint:
        return [CandidateFit(Candidate((), {}), {}, [_fit(one, {}, targets) for one in layouts])]
    holding = holding_tensors(checkpoint)
    under = f"tensors are under {', '.join(holding)}: choose with FILE#KEY" if holding else (
        f"its keys are {', '.join(map(str, list(checkpoint)[:SHOWN]))}"
    )  # fmt: skip
    where = f"under {key!r}" if key else "under a key that is known"
    raise ValueError(f"{origin} has no weights {where}; {under}")


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


def _misfit(origin: str, network: str, reading: CandidateFit, targets: Mapping[str, Tensor]) -> str:
    best, problems = reading.best, reading.best.problems
    count = "1 tensor differs" if len(problems) == 1 else f"{len(problems)} tensors differ"
    kinds = (
        (len(best.wrong), "of another shape or type"), (len(best.missing), "missing"),
        (len(best.unexpected), "not known here"),
    )  # fmt: skip
    several = [f"{number} {kind}" for number, kind in kinds if number]
    under = f" ({reading.candidate.key})" if reading.candidate.key else ""
    split = f" ({', '.join(several)})" if len(several) > 1 else ""
    lines = [f"{origin}{under} does not fit {network}, {count}{split}:"]
    lines += [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  and {len(problems) - SHOWN} more")
    tried = ", ".join(fit.layout.name for fit in reading.fits)
    lines.append(f"layouts tried: {tried}; the nearest is {best.layout.name}")
    if classes := _other_classes(best, reading.tensors, targets):
        lines.append(f"the checkpoint has {classes} classes: build with num_classes={classes}")
    return "\n".join(lines)


def _other_classes(
    fit: Fit, tensors: Mapping[str, Tensor], targets: Mapping[str, Tensor]
) -> int | None:
    """Return the checkpoint's number of classes, where its last layer differs in that alone."""
    head = _head(targets)[:1]
    if not head or head[0] not in fit.names:
        return None
    found = tensors[fit.names[head[0]]].flatten(1).shape
    expected = targets[head[0]].flatten(1).shape
    return found[0] if found[0] != expected[0] and found[1:] == expected[1:] else None


def _head(targets: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the last layer's weight and of its bias, if it has one."""
    last = [name for name in targets if name.endswith(".weight") and targets[name].ndim > 1][-1:]
    return [*last, *(name.removesuffix("weight") + "bias" for name in last)]
