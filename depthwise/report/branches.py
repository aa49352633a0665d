"""Steps as chains and forks: what runs one after the other, what side by side."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from depthwise.graph import Graph
from depthwise.report.steps import Step


@dataclass(frozen=True, eq=False)
class Fork:
    """Branches that part after one step and meet in `join`, None at the network's end.

    An empty branch is a plain line: the shortcut of a residual block.
    """

    branches: "tuple[Items, ...]"
    join: Step | None


@dataclass(frozen=True, eq=False)
class Tangle:
    """Steps whose lines cross, in a dense block for one: no branches to draw side by side."""

    steps: tuple[Step, ...]


Item = Step | Fork | Tangle
Items = tuple[Item, ...]

SOURCE, SINK = "source", "sink"


def steps_of(items: Iterable[Item]) -> list[Step]:
    """Return the steps of a chain, in order."""
    found: list[Step] = []
    for item in items:
        match item:
            case Step():
                found.append(item)
            case Tangle(steps):
                found += steps
            case Fork(branches, join):
                found += [step for branch in branches for step in steps_of(branch)]
                found += [join] if join else []
    return found


def find_chain(graph: Graph, steps: tuple[Step, ...]) -> Items:
    """Return the steps as one chain from the graph's inputs to its outputs."""
    steps = _drop_dead_ends(graph, steps)
    ends = {node.name: step.name for step in steps for node in (step.node, *step.after)}
    returned = {ends[o.value] for o in graph.outputs if o.value in ends}
    readers: dict[str, set[str]] = {SOURCE: set(), **{step.name: set() for step in steps}}
    for step in steps:
        for name in step.inputs or (SOURCE,):
            readers[name if name in ends else SOURCE].add(step.name)
    for name in returned:
        readers[name].add(SINK)
    return _Parter({step.name: step for step in steps}, readers).chain(
        SOURCE, SINK, [step.name for step in steps]
    )


def _drop_dead_ends(graph: Graph, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the steps that reach an output; what others cost joins the step that they read."""
    wanted = {output.value for output in graph.outputs}
    live: set[str] = set()
    for step in reversed(steps):
        if wanted & {step.name, *(node.name for node in step.after)}:
            live.add(step.name)
            wanted |= set(step.inputs)
    home: dict[str, str] = {}
    kept: dict[str, Step] = {}
    for step in steps:
        home[step.name] = step.name
        if step.name in live:
            kept[step.name] = step
        elif (before := next((home[n] for n in step.inputs if n in home), "")) in kept:
            home[step.name] = before
            joined = (*kept[before].layers, *step.layers)
            kept[before] = replace(kept[before], layers=joined)
    return tuple(kept.values())


class _Parter:
    """Parts a graph of steps at those that every path goes through. `readers` are its edges."""

    def __init__(self, steps: dict[str, Step], readers: dict[str, set[str]]):
        self.steps, self.readers = steps, readers

    def chain(self, start: str, end: str, inner: list[str]) -> Items:
        """Return what is between `start` and `end`, both left out; `inner` is in order.

        A fork at its end has no join of its own: its branches meet in `end`. An edge from `start`
        right to `end` is none of this chain's: it is a branch beside it.
        """
        items: list[Item] = []
        before, rest = start, inner
        for cut in self._cuts(start, end, inner):
            place = rest.index(cut)
            direct = cut in self.readers[before]
            items += self._region(before, cut, rest[:place], self.steps[cut], direct)
            before, rest = cut, rest[place + 1 :]
        direct = before != start and end in self.readers[before]
        return (*items, *self._region(before, end, rest, None, direct))

    def _cuts(self, start: str, end: str, inner: list[str]) -> list[str]:
        """Return the steps that no edge jumps over."""
        order = {name: i for i, name in enumerate((start, *inner, end))}
        reach, cuts = 0, []
        for name in (start, *inner):
            if name != start and reach <= order[name]:
                cuts.append(name)
            readers = self.readers[name] - ({end} if name == start else set())
            reach = max((reach, *(order[r] for r in readers if r in order)))
        return cuts

    def _region(
        self, start: str, end: str, inner: list[str], join: Step | None, direct: bool
    ) -> list[Item]:
        """Return the items between two steps, and `join`, the second one where it belongs here."""
        last = [join] if join else []
        if not inner:
            return [*last]
        parts = self._parts(inner)
        if len(parts) + direct == 1:
            return [Tangle(tuple(self.steps[name] for name in inner)), *last]
        branches = [self.chain(start, end, part) for part in parts]
        return [Fork((*branches, *([()] if direct else [])), join)]

    def _parts(self, inner: list[str]) -> list[list[str]]:
        """Return the steps that hang together, in order."""
        group = {name: {name} for name in inner}
        for name in inner:
            for reader in self.readers[name]:
                if reader in group and group[reader] is not group[name]:
                    both = group[name] | group[reader]
                    group.update(dict.fromkeys(both, both))
        parts = {id(members): members for members in group.values()}
        return [[name for name in inner if name in members] for members in parts.values()]
