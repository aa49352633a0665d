"""Groups of channels that live or die together, found on the graph."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from depthwise.graph import Graph
from depthwise.slimming.channels.coupling import Coupled, Coupling
from depthwise.slimming.channels.coupling_rules import couple
from depthwise.slimming.channels.shuffles import shuffles_to_gathers


@dataclass(frozen=True, eq=False)
class GroupMember:
    """A node that gives or reads channels of a group.

    Attributes:
        node: Its name.
        units: For each channel, the number of its unit; -1 for channels of no unit of the group.
    """

    node: str
    units: np.ndarray


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that are coupled: its units are cut one by one, all channels of a unit at once.

    Attributes:
        root: The first node that gives channels of the group.
        place: The path of its module.
        units: How many units there are.
        writers: What gives channels: rows of weights.
        readers: What reads them and gives others: columns of weights.
        parts: By their numbers in `Coupling.parts` what is read or given in parts, (parts, size) of
            units, of which as many are to be cut of each, as in a grouped convolution; -1 for
            channels of no unit.
        values: What consists of channels of the group, with the numbers of their units along the
            one axis on which they lie.
        inexact: Nodes that compute one value of all channels without weights (normalisation by
            statistics of all, means over channels).
    """

    root: str
    place: str
    units: int
    writers: tuple[GroupMember, ...]
    readers: tuple[GroupMember, ...]
    parts: Mapping[int, np.ndarray]
    values: tuple[GroupMember, ...]
    inexact: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Grouping:
    """All groups of a graph.

    Attributes:
        graph: The graph, with shuffles as orders of channels (`shuffles_to_gathers`).
        groups: By the names of their roots, in order.
        pinned: Of what gives channels of which none may be cut: why.
        coupling: The identities that were found.
        identities: Of each group, those of its units.
    """

    graph: Graph
    groups: Mapping[str, ChannelGroup]
    pinned: Mapping[str, str]
    coupling: Coupling
    identities: Mapping[str, np.ndarray]


@lru_cache(maxsize=2)  # a graph does not change, and each of its changes asks for its groups
def find_groups(graph: Graph) -> Grouping:
    """Return the groups of channels of a graph, and what has to stay as it is."""
    plain = shuffles_to_gathers(graph)
    coupling = couple(plain)
    free, pinned = _born(coupling)
    found = list(_connected(free))
    places = _Places(coupling, found)
    groups = {group.root: group for group in map(places.group, range(len(found)))}
    roots = dict(zip(groups, found, strict=True))
    return Grouping(plain, groups, pinned, coupling, roots)


def pinned_layers(graph: Graph) -> dict[str, str]:
    """Return why, of the layers that keep all channels which they give, by their paths."""
    paths = {node.name: node.path or node.name for node in graph}
    return {paths.get(name, name): reason for name, reason in find_groups(graph).pinned.items()}


def _born(c: Coupling) -> tuple[list[np.ndarray], dict[str, str]]:
    """Return the identities that each layer gives and that may be cut, and why others may not."""
    free, pinned = [], dict(c.refused)
    for layer in c.born:
        found = np.unique(c.sets.find(layer.ids))
        reasons = [c.sets.reason(int(identity)) for identity in found]
        open_ = found[[reason is None for reason in reasons]]
        free.append(open_)
        if not len(open_):
            pinned[layer.node.name] = next(reason for reason in reasons if reason)
    return free, pinned


def _connected(free: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the identities of each group: those that one layer gives belong together."""
    home: dict[int, int] = {}  # identity -> the number of its group
    members: dict[int, list[int]] = {}
    for number, found in enumerate(free):
        met = sorted({home[identity] for identity in found.tolist() if identity in home})
        into = met[0] if met else number
        own = members.setdefault(into, [])
        for other in met[1:]:
            own += members.pop(other)
        own += [identity for identity in found.tolist() if identity not in home]
        home |= dict.fromkeys(own, into)
    yield from (np.array(identities) for identities in members.values() if identities)


class _Places:
    """Where the units of each group are."""

    def __init__(self, c: Coupling, groups: list[np.ndarray]):
        self._owner = np.full(c.sets.count, -1)
        self._unit = np.full(c.sets.count, -1)
        self._sizes = [len(identities) for identities in groups]
        for number, identities in enumerate(groups):
            self._owner[identities] = number
            self._unit[identities] = np.arange(len(identities))
        self._graph = c.graph
        self._writers = self._members(c, c.born)
        self._readers = self._members(c, c.read)
        self._values = self._members(c, [Coupled(node, c[node.name]) for node in c.graph])
        self._inexact = self._members(c, c.inexact)
        self._parts = self._units(c, [part.ids for part in c.parts])

    def group(self, number: int) -> ChannelGroup:
        """Return the group of a number."""
        writers = self._writers[number]
        root = next(node for node in self._graph if node.name == writers[0].node)
        return ChannelGroup(
            root.name, root.path or root.name, self._sizes[number], tuple(writers),
            tuple(self._readers.get(number, ())), self._parts.get(number, {}),
            tuple(self._values[number]),
            tuple(member.node for member in self._inexact.get(number, ())),
        )  # fmt: skip

    def _members(self, c: Coupling, coupled: list[Coupled]) -> dict[int, list[GroupMember]]:
        found = self._units(c, [each.ids for each in coupled])
        return {
            number: [GroupMember(coupled[place].node.name, units) for place, units in own.items()]
            for number, own in found.items()
        }

    def _units(self, c: Coupling, arrays: list[np.ndarray]) -> dict[int, dict[int, np.ndarray]]:
        """Return, for each group, the arrays that have units of it, by their places among all."""
        result: dict[int, dict[int, np.ndarray]] = {}
        for place, ids in enumerate(arrays):
            roots = c.sets.find(ids)
            owner, unit = self._owner[roots], self._unit[roots]
            for number in np.unique(owner[owner >= 0]).tolist():
                result.setdefault(number, {})[place] = np.where(owner == number, unit, -1)
        return result
