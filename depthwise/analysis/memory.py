"""The memory that activations take when a network runs layer by layer."""

from dataclasses import dataclass

from depthwise.graph import Graph, Node, ops

# These write over their first input where nothing else reads it any more.
IN_PLACE = (ops.BatchNorm, ops.Activation, ops.PRelu, ops.Binary)


@dataclass(frozen=True)
class MemoryPeak:
    """The most bytes alive at once, and the node that runs then."""

    bytes: int
    node: str


def peak_activations(graph: Graph) -> MemoryPeak:
    """Return the peak of activation bytes, and the first node at which they are as many."""
    bytes, name = max(alive_bytes(graph), key=lambda each: each[0])
    return MemoryPeak(bytes, name)


def alive_bytes(graph: Graph) -> list[tuple[int, str]]:
    """Return the bytes of activations before the first node, and while each node runs.

    In the graph's order, each tensor freed when last read. Element-by-element operators work in
    place where they may, a reshape takes nothing; a concatenation is a copy. Inputs count until
    they are read last, outputs until the end.
    """
    holder = _holders(graph)
    last_read = _last_reads(graph, holder)
    sizes = {name: graph.type(name).bytes for name in (*graph.inputs, *(n.name for n in graph))}
    alive = {name: sizes[name] for name in graph.inputs}
    found = [(sum(alive.values()), "")]
    for position, node in enumerate(graph):
        name = holder[node.name]
        alive[name] = max(alive.get(name, 0), sizes[node.name])
        found.append((sum(alive.values()), node.name))
        alive = {name: size for name, size in alive.items() if last_read[name] > position}
    return found


def _holders(graph: Graph) -> dict[str, str]:
    """Return, for each value, the value whose buffer it lives in."""
    readers = graph.readers()
    outputs = {output.value for output in graph.outputs}
    order = {node.name: i for i, node in enumerate(graph)}
    holder = {name: name for name in graph.inputs}
    for node in graph:
        read = [name for name in node.inputs if name in holder]
        holder[node.name] = node.name
        if isinstance(node.op, ops.Reshape) and read:
            holder[node.name] = holder[read[0]]
        elif isinstance(node.op, IN_PLACE) and read:
            first = read[0]
            sharing = [name for name, held in holder.items() if held == holder[first]]
            last = all(
                order[reader.name] <= order[node.name]
                for name in sharing if name != node.name for reader in readers[name]
            )  # fmt: skip
            free = last and not outputs & set(sharing) and holder[first] not in graph.inputs
            if free and graph.type(first).bytes >= node.type.bytes and _once(node, first):
                holder[node.name] = holder[first]
    return holder


def _once(node: Node, name: str) -> bool:
    return node.inputs.count(name) == 1


def _last_reads(graph: Graph, holder: dict[str, str]) -> dict[str, int]:
    """Return, for each buffer, the position of the node that reads it last."""
    end = len(graph.nodes)
    last = dict.fromkeys(holder.values(), -1)
    for position, node in enumerate(graph):
        last[holder[node.name]] = max(last[holder[node.name]], position)
        for name in node.inputs:
            if name in holder:
                last[holder[name]] = max(last[holder[name]], position)
    for output in graph.outputs:
        if output.value in holder:
            last[holder[output.value]] = end
    return last
