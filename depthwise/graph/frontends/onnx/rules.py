"""The table of rules: how an operator of ONNX becomes ours.

A rule takes the operands of one node and its attributes by name, with ONNX's defaults, and returns
the value of its output, or a list with one value for each output.
https://onnx.ai/onnx/operators
"""

from collections.abc import Callable, Mapping
from typing import Any

from depthwise.errors import Unsupported

Rule = Callable[..., Any]

RULES: dict[str, Rule] = {}

# Attributes that are words, by their name or by operator and name: what each may be. ONNX's own
# checks let any text pass.
WORDS: dict[str, tuple[str, ...]] = {
    "auto_pad": ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"),
    "approximate": ("none", "tanh"),
    "coordinate_transformation_mode": (
        "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
        "tf_crop_and_resize",
    ),
    "nearest_mode": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    "keep_aspect_ratio_policy": ("stretch", "not_larger", "not_smaller"),
    "Resize.mode": ("nearest", "linear", "cubic"),
    "Upsample.mode": ("nearest", "linear"),
    "Pad.mode": ("constant", "reflect", "edge", "wrap"),
    "DepthToSpace.mode": ("DCR", "CRD"),
    "SpaceToDepth.mode": ("DCR", "CRD"),
}  # fmt: skip


class Refusal(Unsupported):
    """Our graph cannot say what a node says. The message is the reason; the importer adds where."""


OUTSIDE = "keep it outside of the network, or export the network without it"
EVALUATE = "export the network in evaluation mode, after net.eval()"


def refuse(condition: object, reason: str, advice: str = OUTSIDE) -> None:
    """Raise Refusal if the condition holds, with a reason and what to do about it."""
    if condition:
        raise Refusal(f"{reason}; {advice}")


def check_words(operator: str, attributes: Mapping[str, Any]) -> None:
    """Raise ValueError for an attribute that is a word, and none that ONNX knows there."""
    for name, word in attributes.items():
        accepted = WORDS.get(name) or WORDS.get(f"{operator}.{name}")
        if accepted and word not in accepted:
            raise ValueError(f"{name}={word!r}: one of {', '.join(accepted)}")


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of operators of the domain ai.onnx."""

    def register(function: Rule) -> Rule:
        for operator in operators:
            assert operator not in RULES, operator
            RULES[operator] = function
        return function

    return register
