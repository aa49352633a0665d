"""Which maps are ghosts of which: maps that were made of each other, and maps that were not."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from depthwise.analysis.ghosts import (
    KERNEL_SIZE,
    TOLERANCE,
    choose_intrinsic,
    find_ghosts,
    residuals,
)
from depthwise.layers import GhostModule

RANDOM = np.random.default_rng(5)


def noise(count, height=16, width=20):
    return RANDOM.standard_normal((count, height, width))


def filtered(map, kernel):
    """What PyTorch's 'same' convolution makes of a map."""
    x, w = torch.tensor(map), torch.tensor(kernel)
    return F.conv2d(x[None, None], w[None, None], padding=len(kernel) // 2)[0, 0].numpy()


def test_independent_maps_are_no_ghosts():
    for height, width in ((16, 20), (5, 8)):  # in few pixels much looks alike
        found = find_ghosts(noise(60, height, width))
        assert found.ghosts == found.dead == ()
        assert found.intrinsic == tuple(range(60))
        assert (found.cheap_share, found.ratio) == (0, 1)


def test_affine_images_are_found_with_their_scale_and_offset():
    a, b, rest = noise(3)
    maps = np.stack([rest, a, -2 * a + 3, b, 0.01 * b - 40, a / 2])
    found = find_ghosts(maps)
    assert found.intrinsic == (0, 1, 3)
    assert [(g.map, g.parent, g.operation) for g in found.ghosts] == [
        (2, 1, "affine"), (4, 3, "affine"), (5, 1, "affine"),
    ]  # fmt: skip
    for ghost, scale, offset in zip(found.ghosts, (-2, 0.01, 0.5), (3, -40, 0), strict=True):
        assert ghost.weights == ((pytest.approx(scale),),)
        assert ghost.offset == pytest.approx(offset, abs=1e-9)
        assert ghost.residual < 1e-6
    assert found.groups == {1: (found.ghosts[0], found.ghosts[2]), 3: (found.ghosts[1],), 0: ()}
    assert (found.cheap_share, found.ratio, found.affine) == (0.5, 2, 3)


def test_images_under_a_small_filter_are_found_with_their_kernel():
    a, b = noise(2)
    right = np.zeros((3, 3))
    right[1, 0] = 1.0  # each pixel is its left neighbour: the map is shifted to the right
    blur = np.outer([1, 2, 1], [1, 2, 1]) / 16
    maps = np.stack([a, filtered(a, right), b, filtered(b, blur) - 7])
    found = find_ghosts(maps)
    for map, parent, kernel, offset in ((1, 0, right, 0), (3, 2, blur, -7)):
        # a shift can be undone, but for its border: either may be kept
        ghosts = [g for g in found.ghosts if {g.map, g.parent} == {map, parent}]
        assert [g.operation for g in ghosts] == ["filter"]
        if ghosts[0].map == map:
            np.testing.assert_allclose(ghosts[0].weights, kernel, atol=1e-9)
            assert ghosts[0].offset == pytest.approx(offset, abs=1e-9)
    assert (3, 2) in [(g.map, g.parent) for g in found.ghosts]  # a blur cannot be undone by 3x3
    assert find_ghosts(np.stack([a, filtered(a, np.pad(right, 1) + np.pad(blur, 1))])).ghosts
    far = np.zeros((5, 5))
    far[0, 0] = 1.0  # a shift by two pixels is beyond a small filter
    assert find_ghosts(np.stack([a, filtered(a, far)])).ghosts == ()


def test_a_ghost_module_is_seen_through():
    torch.manual_seed(2)
    module = GhostModule(3, 12, kernel_size=3, act=None, ratio=3).eval()
    with torch.inference_mode():
        maps = module(torch.randn(1, 3, 16, 16))[0].numpy()
    found = find_ghosts(maps, tolerance=1e-3)
    assert found.intrinsic == (0, 1, 2, 3)
    # the depthwise convolution's outputs stand channel by channel
    assert [(g.map, g.parent) for g in found.ghosts] == [(4 + i, i // 2) for i in range(8)]
    taps = module.cheap[0].weight.detach()[:, 0]
    factor = 1 / np.sqrt(1 + module.cheap[1].eps)  # of a normalisation that has not learnt
    for ghost, kernel in zip(found.ghosts, taps, strict=True):
        np.testing.assert_allclose(ghost.weights, factor * kernel, atol=1e-4)
    assert (found.ratio, found.affine) == (3, 0)


@pytest.mark.parametrize(("left", "is_ghost"), [(0.29, True), (0.31, False)])
def test_the_residual_is_a_share_of_the_deviation(left, is_ghost):
    a, b = noise(2, 200, 200)
    a, b = ((x - x.mean()) / x.std() for x in (a, b))
    b -= (a * b).mean() * a
    mixed = np.sqrt(1 - left**2) * a + left * b / b.std()
    assert residuals(np.stack([a, mixed]), 1)[0, 1] == pytest.approx(left, rel=1e-3)
    assert TOLERANCE == 0.3
    assert bool(find_ghosts(np.stack([a, mixed])).ghosts) is is_ghost


def test_residuals_are_those_of_least_squares_by_degrees_of_freedom():
    maps = noise(2, 6, 7)
    taps = F.unfold(torch.tensor(maps[:1, None]), KERNEL_SIZE, padding=1)[0].numpy()
    design = np.column_stack([*taps, np.ones(42)])
    squares = np.linalg.lstsq(design, maps[1].ravel(), None)[1][0]
    expected = np.sqrt(squares / (42 - 10)) / maps[1].std(ddof=1)
    assert residuals(maps, KERNEL_SIZE)[0, 1] == pytest.approx(expected, abs=1e-6)


def test_dead_maps_are_free_and_named():
    a, b = noise(2)
    flat = np.ones_like(a)
    found = find_ghosts(np.stack([0 * flat, a, 6 * flat, b, 2 * a, 1e-9 * b]))
    assert (found.dead, found.intrinsic) == ((0, 2, 5), (1, 3))
    assert [g.map for g in found.ghosts] == [4]
    assert (found.cheap_share, found.ratio) == (pytest.approx(4 / 6), 3)
    nothing = find_ghosts(np.stack([flat, flat]))
    assert (nothing.dead, nothing.intrinsic, nothing.ratio) == ((0, 1), (), None)
    assert nothing.cheap_share == 1


def test_a_map_with_one_bright_pixel_is_no_trouble():
    dot = np.zeros((9, 9))
    dot[0, 0] = 1.0  # the corner: five of its nine shifted maps are empty
    found = find_ghosts(np.stack([dot, np.roll(dot, 1, 0), *noise(2, 9, 9)]))
    assert [(g.map, g.parent, g.residual) for g in found.ghosts] == [(1, 0, pytest.approx(0))]


def test_of_many_choices_few_maps_are_kept():
    near = np.zeros((7, 7), bool)
    near[0, [1, 2, 3, 4]] = True  # the first choice, for it reaches most
    near[5, [0, 1, 2]] = True
    near[6, [3, 4]] = True  # and then 5 and 6 reach all, the first too
    assert choose_intrinsic(near, np.where(near, 0.1, 1.0)) == [5, 6]
    hub = np.zeros((5, 5), bool)
    hub[3, :] = True
    hub[0, 1] = True
    assert choose_intrinsic(hub, np.where(hub, 0.1, 1.0)) == [3]
    pair = np.ones((2, 2), bool)  # either makes the other: the one that comes nearer is kept
    assert choose_intrinsic(pair, np.array([[0, 0.2], [0.1, 0]])) == [1]


def test_every_ghost_is_an_image_of_a_map_that_is_kept():
    base = noise(6)
    maps = np.concatenate([base, 2 * base[[0, 0, 3]] + 0.1 * noise(3)])
    found = find_ghosts(maps)
    assert {g.parent for g in found.ghosts} <= set(found.intrinsic)
    parts = (*found.intrinsic, *(g.map for g in found.ghosts), *found.dead)
    assert sorted(parts) == list(range(len(maps)))
    assert all(g.residual <= found.tolerance for g in found.ghosts)
    assert len(found.intrinsic) == 6


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (np.ones((1, 9, 9)), "1 map of 9 x 9 pixels: a ghost is made of another map"),
        (np.ones((4, 6, 6)), "4 maps of 6 x 6 pixels: 10 numbers fit any, so that 40 pixels"),
        (np.ones((9, 9)), r"maps of shape \(9, 9\): expected \(C, H, W\)"),
        (np.full((2, 9, 9), np.nan), "not finite"),
        (np.full((2, 9, 9), np.inf), "not finite"),
    ],
)
def test_maps_that_tell_nothing_are_refused(maps, message):
    with pytest.raises(ValueError, match=message):
        find_ghosts(maps)


@pytest.mark.parametrize("tolerance", [0, 1, -0.1, float("nan")])
def test_a_tolerance_is_a_share(tolerance):
    with pytest.raises(ValueError, match="between 0 and 1"):
        find_ghosts(noise(2), tolerance)
