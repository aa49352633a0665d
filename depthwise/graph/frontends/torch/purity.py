"""What makes a network no function of its inputs: random draws, and writes into its own tensors."""

from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

NORMALISING = ("batch_norm", "instance_norm")  # in training they write statistics, unannounced
EMPTY = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "empty_permuted")
LEAVING = ("aten.detach_",)  # in place by name, though no element changes


def arguments(node: fx.Node) -> dict[str, Any]:
    """Return an operator's arguments by name, those with a default included."""
    if not isinstance(node.target, OpOverload):
        return {}
    schema = node.target._schema
    given = {argument.name: argument.default_value for argument in schema.arguments}
    given |= {a.name: x for a, x in zip(schema.arguments, node.args, strict=False)}
    return given | node.kwargs


def draws(node: fx.Node) -> bool:
    """Tell whether an operator's result depends on PyTorch's random numbers.

    Dropout and its like do in training alone, and never where nothing is dropped.
    """
    target = node.target
    if not isinstance(target, OpOverload) or torch.Tag.nondeterministic_seeded not in target.tags:
        return False
    given = arguments(node)
    for switch in ("train", "training"):
        if switch in given:
            shares = [given[name] for name in ("p", "dropout") if name in given]
            return given[switch] is not False and shares != [0]
    return given.get("dropout_p") != 0 if "dropout_p" in given else True


def takes_what_is_there(node: fx.Node) -> bool:
    """Tell whether an operator returns memory that holds whatever was left in it."""
    return isinstance(node.target, OpOverload) and node.target._opname in EMPTY


def written(node: fx.Node) -> list[fx.Node]:
    """Return what an operator writes into, besides its result."""
    target, given = node.target, arguments(node)
    if not isinstance(target, OpOverload) or target._schema.name.replace("::", ".") in LEAVING:
        return []
    names = [
        argument.name
        for argument in target._schema.arguments
        if argument.alias_info and argument.alias_info.is_write
    ]
    if any(kind in target._schema.name for kind in NORMALISING) and any(
        given.get(switch) for switch in ("training", "train", "use_input_stats")
    ):
        names += ["running_mean", "running_var"]
    return [x for x in map(given.get, names) if isinstance(x, fx.Node)]


def explain_draw(node: fx.Node) -> str:
    """Return what is to be done about an operator that draws."""
    given = arguments(node)
    advice = "draw outside of the network, and give it what was drawn as an input"
    if {"train", "training"} & set(given):
        advice = (
            "call eval() on the network before it is exported, or say in its forward when it is "
            "meant: F.dropout(x, p, self.training)"
        )
    elif "dropout_p" in given:
        advice = "give dropout_p=0.0 in evaluation: dropout_p=p if self.training else 0.0"
    return f"draws random numbers, so that the network is no function of its inputs: {advice}"


def explain_write(node: fx.Node, name: str) -> str:
    """Return what is to be done about an operator that writes into the network's tensor `name`."""
    advice = "keep counters and statistics outside of forward, or inside of: if self.training"
    if any(kind in str(node.target) for kind in NORMALISING):
        advice = "call eval() on the network before it is exported"
    return (
        f"writes into {name!r}, a tensor of the network's own, so that each call would change what "
        f"the next one computes: {advice}"
    )
