"""Which maps of a layer are convolved, and which are made of which."""

from typing import NamedTuple

import numpy as np


class Pairing(NamedTuple):
    """Which maps are convolved, and which are made of each.

    Attributes:
        primary: (K / ratio) channels.
        ghosts: Of each of them, (K / ratio, ratio - 1) channels.
        harm: What making them does.
    """

    primary: np.ndarray
    ghosts: np.ndarray
    harm: float

    @property
    def order(self) -> np.ndarray:
        """The channels as a Ghost module gives them: those convolved, then those made."""
        return np.concatenate([self.primary, self.ghosts.reshape(-1)])


def choose_primaries(harm: np.ndarray, ratio: int) -> Pairing:
    """Return a pairing that does little harm; harm[j, k] is that of making k of j.

    One primary after the other is taken that spares the others most; each gets its share of ghosts,
    the least harmful first; then ghosts are exchanged while that helps, and each family is headed
    by whoever explains the others best.
    """
    count = len(harm) // ratio
    primary, left = [], harm.max(0)
    for _ in range(count):
        gains = np.maximum(left - harm, 0).sum(1)
        gains[primary] = -1
        primary.append(int(gains.argmax()))
        left = np.minimum(left, harm[primary[-1]])
    ghosts = np.setdiff1d(np.arange(len(harm)), primary)
    owners = _share_out(harm[np.ix_(primary, ghosts)], ratio - 1)
    families = np.column_stack(
        [primary, ghosts[np.argsort(owners, kind="stable")].reshape(count, -1)]
    )
    total = np.inf
    while True:
        families = _exchange(harm, _choose_heads(harm, families))
        found = float(harm[families[:, :1], families[:, 1:]].sum())
        if found >= total * (1 - 1e-9):
            return Pairing(families[:, 0], families[:, 1:], found)
        total = found


def _share_out(harm: np.ndarray, most: int) -> np.ndarray:
    """Return the owner of each ghost, none with more than `most`: the least harm first."""
    owners, room = np.full(harm.shape[1], -1), np.full(len(harm), most)
    for place in np.argsort(harm, axis=None).tolist():
        owner, ghost = divmod(place, harm.shape[1])
        if owners[ghost] < 0 and room[owner]:
            owners[ghost], room[owner] = owner, room[owner] - 1
    return owners


def _choose_heads(harm: np.ndarray, families: np.ndarray) -> np.ndarray:
    """Return families headed by whoever of them does least harm."""
    among = harm[families[:, :, None], families[:, None, :]].sum(2)
    heads = among.argmin(1)[:, None]
    places = (heads + np.arange(families.shape[1])) % families.shape[1]
    return np.take_along_axis(families, places, 1)


def _exchange(harm: np.ndarray, families: np.ndarray) -> np.ndarray:
    """Return families that have exchanged ghosts, two at a time, as long as that helped."""
    heads = np.repeat(families[:, 0], families.shape[1] - 1)
    ghosts = families[:, 1:].reshape(-1).copy()
    made = harm[np.ix_(heads, ghosts)]  # [a, b]: ghost b made by the head of ghost a
    for _ in range(2 * len(ghosts)):
        now = np.diag(made)
        change = made + made.T - now - now[:, None]
        a, b = divmod(int(change.argmin()), len(ghosts))
        if change[a, b] >= -1e-9 * now.sum():
            break
        ghosts[[a, b]] = ghosts[[b, a]]
        made[:, [a, b]] = made[:, [b, a]]
    return np.column_stack([families[:, :1], ghosts.reshape(len(families), -1)])
