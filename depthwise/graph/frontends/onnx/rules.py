"""The table of rules: how an operator of ONNX becomes ours.

A rule takes the operands of one node and its attributes by name, with ONNX's defaults, and returns
the value of its output, or a list with one value for each output.
https://onnx.ai/onnx/operators
"""

from collections.abc import Callable
from typing import Any

from depthwise.errors import Unsupported

Rule = Callable[..., Any]

RULES: dict[str, Rule] = {}


class Refusal(Unsupported):
    """Our graph cannot say what a node says. The message is the reason; the importer adds where."""


OUTSIDE = "keep it outside of the network, or export the network without it"
EVALUATE = "export the network in evaluation mode, after net.eval()"


def refuse(condition: object, reason: str, advice: str = OUTSIDE) -> None:
    """Raise Refusal if the condition holds, with a reason and what to do about it."""
    if condition:
        raise Refusal(f"{reason}; {advice}")


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of operators of the domain ai.onnx."""

    def register(function: Rule) -> Rule:
        for operator in operators:
            assert operator not in RULES, operator
            RULES[operator] = function
        return function

    return register
