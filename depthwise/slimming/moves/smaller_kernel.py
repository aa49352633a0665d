"""Smaller kernels: 5 x 5 to 3 x 3, 7 x 7 to 5 x 5 or 3 x 3, of standard and depthwise alike."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from depthwise.graph import ops
from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.layers.replacing import replace_weight
from depthwise.slimming.layers.sites import Site, find_sites
from depthwise.slimming.layers.weighted import fit_places
from depthwise.slimming.moves.offering import offer
from depthwise.slimming.statistics import Statistics


def changes(draft: Draft, known: Statistics) -> Iterator[Change]:
    """Yield smaller odd kernels around the same pixel; the taps left make up for those gone.

    A convolution whose padding is less than what a side loses stays as it is, for its output would
    not keep its size.
    """
    for site in find_sites(draft, known):
        for kernel in _smaller(site.kernel):
            if _shrink(site.conv, site.kernel, kernel) is not None:
                words = f"{site.kernel[0]}x{site.kernel[1]} to {kernel[0]}x{kernel[1]}"
                rows = fit_kernel(site, kernel)
                fit = partial(fit_kernel, kernel=kernel)
                build = partial(make_smaller, kernel=kernel)
                damage = site.damage(rows)
                yield offer("smaller_kernel", site, words, damage, rows, fit, build)


def _smaller(kernel: ops.Pair) -> list[ops.Pair]:
    """Return the kernels to offer: each side longer than 3 and odd, 2 and 4 taps shorter."""
    found = [tuple(size - less if size >= 3 + less and size % 2 else size for size in kernel)
             for less in (2, 4)]  # fmt: skip
    return [(rows, columns) for rows, columns in dict.fromkeys(found) if (rows, columns) != kernel]


def _shrink(conv: ops.Conv2d, kernel: ops.Pair, smaller: ops.Pair) -> ops.Conv2d | None:
    """Return the convolution with a smaller kernel, None where it has too little padding."""
    rows, columns = (
        (size - less) // 2 * step
        for size, less, step in zip(kernel, smaller, conv.dilation, strict=True)
    )
    top, bottom, left, right = conv.padding
    padding = ops.Padding(top - rows, bottom - rows, left - columns, right - columns)
    return replace(conv, padding=padding) if min(padding) >= 0 else None


def _inside(kernel: ops.Pair, smaller: ops.Pair) -> np.ndarray:
    """Return the taps of a kernel that a smaller one has, numbered row by row."""
    rows, columns = (
        np.arange(less) + (size - less) // 2 for size, less in zip(kernel, smaller, strict=True)
    )
    return (rows[:, None] * kernel[1] + columns).reshape(-1)


def fit_kernel(site: Site, kernel: ops.Pair) -> np.ndarray:
    """Return the best weight (K, D) with taps in the middle alone."""
    rows, taps = site.rows, np.prod(site.kernel)
    starts = np.arange(0, rows.shape[1], taps)[:, None]
    places = (starts + _inside(site.kernel, kernel)).reshape(-1)
    fitted = np.zeros_like(rows).reshape(site.groups, -1, rows.shape[1])
    for group, covariance in enumerate(site.statistics.covariance):
        own = rows.reshape(fitted.shape)[group]
        fitted[group][:, places] = fit_places(own, covariance, places)
    return fitted.reshape(rows.shape)


def make_smaller(site: Site, rows: np.ndarray, kernel: ops.Pair) -> Draft:
    """Give a convolution a smaller kernel."""
    op = _shrink(site.conv, site.kernel, kernel)
    assert op is not None
    taps = rows.reshape(*site.weight.shape[:2], -1)[:, :, _inside(site.kernel, kernel)]
    return replace_weight(site, op, taps.reshape(*taps.shape[:2], *kernel), rows)
