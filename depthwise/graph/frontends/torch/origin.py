"""Where in a network an operator of an exported program is, and what is read of it."""

import operator
import re
from typing import cast

from torch import fx
from torch.export import ExportedProgram

from depthwise.users_code import is_users


def where_of(node: fx.Node) -> str:
    """Return which operator it is, in which module, at which line of the user's."""
    line = f" ({line_of(node)})" if line_of(node) else ""
    return f"operator {node.target} in module {path_of(node) or '(the network itself)'!r}{line}"


def line_of(node: fx.Node) -> str:
    """Return the file and line of the user's code that called a node, if export kept them."""
    frames = re.findall(r'File "(.+?)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [f"{file}:{number}" for file, number in frames if is_users(file)]
    return own[-1] if own else ""


def path_of(node: fx.Node) -> str:
    """Return the innermost module's path; a module called twice has one path."""
    stack = node.meta.get("nn_module_stack") or {}
    return next(reversed(stack.values()))[0].split("@")[0] if stack else ""


def called_once(program: ExportedProgram) -> set[str]:
    """Return the paths of the modules that a program's network calls, and no more than once."""
    stacks = (node.meta.get("nn_module_stack") or {} for node in program.graph.nodes)
    paths = {path for stack in stacks for path, _ in stack.values() if path}
    return {path for path in paths if "@" not in path and f"{path}@1" not in paths}


def results_read(node: fx.Node) -> frozenset[int]:
    """Return the numbers of those results of an operator that are read."""
    taken = (user for user in node.users if user.target is operator.getitem and user.users)
    return frozenset(cast("int", user.args[1]) for user in taken)
