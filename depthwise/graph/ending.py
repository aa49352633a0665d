"""Advice on where to end a network that cannot be compiled as far as its author let it go."""

from collections.abc import Collection, Sequence

from depthwise.graph.graph import Node


def ending(name: str) -> str:
    """Return the advice to end a network early, with a module or a value; nothing for no name."""
    return f"; to compile what comes before it, pass until={name!r}" if name else ""


def feeding(
    nodes: Sequence[Node], reads: Collection[str], path: str, called: Collection[str] | None
) -> str:
    """Return the module whose result an operator in the module `path` reads, the latest of several.

    It is the outermost one of those `called` that the operator is not in, for a network that may
    end with a module alone; None of them stands for one that may end with a value, and gives the
    one that is read. Empty where nothing was computed before.
    """
    order = {node.name: index for index, node in enumerate(nodes)}
    waiting, seen, found = list(reads), set(reads), (-1, "")
    while waiting:
        name = waiting.pop()
        if name not in order:
            continue
        node = nodes[order[name]]
        end = name if called is None else _outermost(node.path, path, called)
        if end:
            found = max(found, (order[name], end))
        else:
            waiting += [read for read in node.inputs if read not in seen]
            seen.update(node.inputs)
    return found[1]


def _outermost(path: str, inside: str, called: Collection[str]) -> str:
    """Return the outermost called module around a path that is not around another."""
    parts = path.split(".")
    around = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return next(
        (each for each in around if each in called and not f"{inside}.".startswith(f"{each}.")), ""
    )
