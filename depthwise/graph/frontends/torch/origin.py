"""Where an operator stands: the module and the line of the network's code that called it."""

import re

from torch import fx


def line_of(node: fx.Node) -> str:
    """Return the file and line of the network's code that called a node, if export kept them."""
    frames = re.findall(r'File "(.+?)", line (\d+)', node.meta.get("stack_trace") or "")
    return f"{frames[-1][0]}:{frames[-1][1]}" if frames else ""


def where_is(node: fx.Node) -> str:
    """Return which operator it is, and of which module and line."""
    where = f"operator {node.target} in module {path_of(node) or '(the network itself)'!r}"
    return where + (f" ({line_of(node)})" if line_of(node) else "")


def path_of(node: fx.Node) -> str:
    """Return the innermost module's path; a module called twice has one path."""
    stack = node.meta.get("nn_module_stack") or {}
    return next(reversed(stack.values()))[0].split("@")[0] if stack else ""
