"""Ghosts: feature maps that a cheap operation makes of another map (GhostNet, arXiv:1911.11907).

A map b is a ghost of the map a where least squares finds numbers with which
    b = s * a + t                  its affine image, or
    b = sum of w[y, x] * a shifted by (y, x), + t      its image under a small depthwise filter,
the cheap operation of a Ghost module, zeros around the map as there. How near it comes is the
standard deviation of what is left, over that of b, each by its own degrees of freedom: few pixels
would else be fitted by chance.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from depthwise.escaping import counted

KERNEL_SIZE = 3  # the filter's height and width; GhostNet's `d`
TOLERANCE = 0.3  # of a map's deviation may be left: 91 % of its variance is then explained
COEFFICIENTS = KERNEL_SIZE**2 + 1  # that are fitted to each map
LEAST_PIXELS = 4 * COEFFICIENTS  # of a map: fewer prove nothing
CONSTANT = 1e-6  # of the largest value in the layer: a map that varies less is dead
RANK = 1e-10  # of the largest eigenvalue: what varies less among shifted maps is rounding
DIGITS = 6  # of a residual: below are rounding errors, which must not choose among perfect copies

Operation = Literal["affine", "filter"]


@dataclass(frozen=True)
class Ghost:
    """A map that a cheap operation makes of another.

    Attributes:
        map: Its channel.
        parent: The channel of the map that it is made of.
        operation: "affine", or "filter" where only the small filter comes near enough.
        residual: What is left, relative to the map's deviation: 0 is a perfect copy.
        weights: s, (1, 1), or w, (KERNEL_SIZE, KERNEL_SIZE), as a convolution has it.
        offset: t.
    """

    map: int
    parent: int
    operation: Operation
    residual: float
    weights: tuple[tuple[float, ...], ...]
    offset: float


@dataclass(frozen=True)
class Ghosts:
    """The maps of a layer, told apart: each is intrinsic, a ghost of an intrinsic one, or dead.

    Attributes:
        maps: How many there are.
        intrinsic: The channels that are kept, in order.
        ghosts: The others that vary, in the order of their channels.
        dead: The channels that are constant: an offset makes them, of nothing.
        tolerance: The largest residual of a ghost.
    """

    maps: int
    intrinsic: tuple[int, ...]
    ghosts: tuple[Ghost, ...]
    dead: tuple[int, ...]
    tolerance: float

    @cached_property
    def groups(self) -> dict[int, tuple[Ghost, ...]]:
        """The ghosts of each intrinsic map, the largest groups first."""
        by_parent = {
            parent: tuple(ghost for ghost in self.ghosts if ghost.parent == parent)
            for parent in self.intrinsic
        }
        return dict(sorted(by_parent.items(), key=lambda item: (-len(item[1]), item[0])))

    @property
    def affine(self) -> int:
        """How many ghosts are affine images."""
        return sum(ghost.operation == "affine" for ghost in self.ghosts)

    @property
    def cheap_share(self) -> float:
        """The share of the maps that needs no convolution over all input channels."""
        return 1 - len(self.intrinsic) / self.maps

    @property
    def ratio(self) -> float | None:
        """The ratio s = maps / intrinsic maps of a Ghost module; None where all maps are dead."""
        return self.maps / len(self.intrinsic) if self.intrinsic else None

    def to_dict(self) -> dict:
        """Return the fields and what follows from them, in types that JSON has."""
        return {
            "maps": self.maps,
            "intrinsic": list(self.intrinsic),
            "ghosts": [asdict(ghost) for ghost in self.ghosts],
            "dead": list(self.dead),
            "tolerance": self.tolerance,
            "cheap_share": self.cheap_share,
            "ratio": self.ratio,
        }


def find_ghosts(maps: np.ndarray, tolerance: float = TOLERANCE) -> Ghosts:
    """Tell which of a layer's maps (C, H, W), of one image, are ghosts of which.

    Raises ValueError for maps that tell nothing (`why_not`) or are not finite, and for a tolerance
    that is not between 0 and 1.
    """
    maps = np.asarray(maps, np.float64)
    _check(maps, tolerance)
    spread = maps.max((1, 2)) - maps.min((1, 2))
    is_dead = spread <= CONSTANT * np.abs(maps).max()
    live = np.flatnonzero(~is_dead)
    affine, filtered = (residuals(maps[live], size) for size in (1, KERNEL_SIZE))
    left = np.where(affine <= tolerance, affine, filtered)
    near = left <= tolerance
    kept = choose_intrinsic(near, left)
    ghosts = []
    for child in sorted(set(range(len(live))) - set(kept)):
        # an affine image of any before a filtered one, which takes more numbers
        parent = min(
            (k for k in kept if near[k, child]),
            key=lambda k: (affine[k, child] > tolerance, left[k, child]),
        )
        is_affine = affine[parent, child] <= tolerance
        fit = _fit(maps[live[parent]], maps[live[child]], 1 if is_affine else KERNEL_SIZE)
        ghosts.append(
            Ghost(
                int(live[child]), int(live[parent]), "affine" if is_affine else "filter",
                float(left[parent, child]), *fit,
            )
        )  # fmt: skip
    dead = tuple(map(int, np.flatnonzero(is_dead)))
    return Ghosts(len(maps), tuple(int(live[k]) for k in kept), tuple(ghosts), dead, tolerance)


def choose_intrinsic(near: np.ndarray, left: np.ndarray) -> list[int]:
    """Return few maps of which every other one is an image, in order.

    The fewest would be a minimum set cover, which takes exponential time. This is the greedy one:
    keep the map of which most of the maps not yet reached are images (of equals, the one whose
    images are nearest), until all are reached; then let go of those that the others do not need.

    Args:
        near: (C, C), true where the map of the column is near enough an image of the row's.
        left: (C, C), its residual.
    """
    count = len(near)
    reaches = near | np.eye(count, dtype=bool)
    unreached = np.ones(count, bool)
    kept: list[int] = []
    while unreached.any():
        new = reaches & unreached
        gains = new.sum(1)
        if gains.max() == 1:  # none makes two of the rest
            kept += map(int, np.flatnonzero(unreached))
            break
        score = gains - np.where(new & near, left, 0).sum(1) / (count + 1)
        kept.append(int(score.argmax()))
        unreached &= ~reaches[kept[-1]]
    times = reaches[kept].sum(0)  # that each map is reached
    for candidate in reversed(kept.copy()):
        if (times - reaches[candidate] > 0).all():
            kept.remove(candidate)
            times -= reaches[candidate]
    return sorted(kept)


def residuals(maps: np.ndarray, kernel_size: int) -> np.ndarray:
    """Return (C, C): what is left of the column's map, once the row's has explained it.

    By a filter of `kernel_size` and an offset, in least squares; relative to the map's deviation.
    No map may be constant.
    """
    planes = maps.reshape(len(maps), maps.shape[1] * maps.shape[2])
    planes = planes - planes.mean(1, keepdims=True)
    total = (planes**2).sum(1)
    left = np.empty((len(maps), len(maps)))
    for row, parent in enumerate(maps):
        seen = shifts(parent, kernel_size)
        seen -= seen.mean(1, keepdims=True)
        squares, axes = np.linalg.eigh(seen @ seen.T)
        independent = squares > RANK * squares[-1]
        weights = axes[:, independent] / np.sqrt(squares[independent])
        explained = ((weights.T @ (seen @ planes.T)) ** 2).sum(0)
        freedom = parent.size - 1 - independent.sum()
        share = np.maximum(1 - explained / total, 0)
        left[row] = np.sqrt(share * (parent.size - 1) / freedom)
    return left.round(DIGITS)


def shifts(map: np.ndarray, kernel_size: int) -> np.ndarray:
    """Return (kernel_size squared, H * W): what each tap of a 'same' filter sees, zeros around."""
    height, width = map.shape
    padded = np.pad(map, kernel_size // 2)
    return np.stack(
        [
            padded[r : r + height, s : s + width].ravel()
            for r in range(kernel_size)
            for s in range(kernel_size)
        ]
    )


def _fit(
    parent: np.ndarray, child: np.ndarray, kernel_size: int
) -> tuple[tuple[tuple[float, ...], ...], float]:
    """Return the weights and the offset that make `child` of `parent` in least squares."""
    seen = np.stack([*shifts(parent, kernel_size), np.ones(parent.size)], axis=1)
    found = np.linalg.lstsq(seen, child.ravel(), RANK)[0]
    weights = found[:-1].reshape(kernel_size, kernel_size)
    return tuple(tuple(map(float, row)) for row in weights), float(found[-1])


def why_not(shape: Sequence[int]) -> str | None:
    """Return why maps of a shape (C, H, W) tell nothing, in words; None where they do."""
    count, height, width = shape
    size = f"{counted(count, 'map')} of {height} x {width} pixels"
    if count < 2:
        return f"{size}: a ghost is made of another map, so that there must be two"
    if height * width < LEAST_PIXELS:
        return f"{size}: {COEFFICIENTS} numbers fit any, so that {LEAST_PIXELS} pixels are needed"
    return None


def _check(maps: np.ndarray, tolerance: float) -> None:
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance {tolerance}: a share of a map's deviation, between 0 and 1")
    if maps.ndim != 3:
        raise ValueError(f"maps of shape {maps.shape}: expected (C, H, W)")
    if reason := why_not(maps.shape):
        raise ValueError(reason)
    if not np.isfinite(maps).all():
        raise ValueError("its maps have values that are not finite, which nothing can be made of")
