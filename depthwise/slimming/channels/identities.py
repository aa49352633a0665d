"""Which channels are one and the same: disjoint sets of integers, and which of them must stay."""

import numpy as np

Ids = np.ndarray  # of integers, as many axes as its value; one element where it does not vary


class Identities:
    """Disjoint sets of identities (Tarjan, 1975), and a reason for each set that must stay.

    Attributes:
        count: How many identities there are: 0 to count - 1.
    """

    def __init__(self):
        self._parent = np.arange(1024)
        self.count = 0
        self._reasons: dict[int, str] = {}

    def fresh(self, count: int) -> Ids:
        """Return new identities, each a set of its own."""
        first, self.count = self.count, self.count + count
        if self.count > len(self._parent):
            known = len(self._parent)
            self._parent = np.concatenate([self._parent, np.arange(known, 2 * self.count)])
        return np.arange(first, self.count)

    def find(self, ids: Ids) -> Ids:
        """Return for each identity the one that stands for its set."""
        found = self._parent[ids]
        while True:
            above = self._parent[found]
            if np.array_equal(above, found):
                break
            found = above
        self._parent[ids] = found
        return found

    def merge(self, a: Ids, b: Ids) -> None:
        """Let each of a and its counterpart of b (broadcast) be of one set."""
        a, b = np.broadcast_arrays(self.find(a), self.find(b))
        apart = a != b
        for one, other in np.unique(np.stack([a[apart], b[apart]], 1), axis=0):
            self._join(self._root(one), self._root(other))

    def pin(self, ids: Ids, reason: str) -> None:
        """Let these identities stay, for a reason."""
        for root in np.unique(self.find(ids)):
            self._reasons.setdefault(int(root), reason)

    def reason(self, identity: int) -> str | None:
        """Return why an identity stays, None where it need not."""
        return self._reasons.get(self._root(identity))

    def _root(self, identity: int) -> int:
        while self._parent[identity] != identity:
            identity = self._parent[identity]
        return int(identity)

    def _join(self, one: int, other: int) -> None:
        low, high = min(one, other), max(one, other)
        self._parent[high] = low
        if low != high and high in self._reasons:
            self._reasons.setdefault(low, self._reasons.pop(high))
