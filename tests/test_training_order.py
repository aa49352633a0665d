"""In which order images are seen, and how each of them looks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from depthwise.training.augment import Appearance
from depthwise.training.draws import uniform
from depthwise.training.order import Order, Seen
from depthwise.weights import Preprocessing


def seen(indices, epoch=0):
    return Seen(np.asarray(indices), np.full(len(indices), epoch))


def look(side, wide=None, strength="light", mirror=True, seed=0):
    how = Preprocessing(
        resize=wide or side, crop=side, interpolation="bilinear", mean=(0,) * 3, std=(1,) * 3
    )
    return Appearance(how, mirror, strength, seed)


def squares(count, side, seed=0):
    return torch.from_numpy(
        np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), np.uint8)
    )


class TestDraws:
    def test_follow_from_what_they_are_for_alone(self):
        all_at_once = uniform(3, np.full(100, 2), np.arange(100), "crop", 4)
        some = uniform(3, np.full(3, 2), np.array([70, 5, 99]), "crop", 4)
        assert np.array_equal(some, all_at_once[[70, 5, 99]])

    @pytest.mark.parametrize("other", [(4, 2, "crop"), (3, 1, "crop"), (3, 2, "flip")])
    def test_differ_with_seed_epoch_and_purpose(self, other):
        seed, epoch, purpose = other
        one = uniform(3, np.full(50, 2), np.arange(50), "crop", 4)
        another = uniform(seed, np.full(50, epoch), np.arange(50), purpose, 4)
        assert not np.isclose(one, another).any()

    def test_are_uniform_and_independent(self):
        found = uniform(0, np.repeat(np.arange(100), 1000), np.tile(np.arange(1000), 100), "x", 3)
        assert found.min() >= 0
        assert found.max() < 1
        counts = np.stack([np.histogram(column, 20, (0, 1))[0] for column in found.T])
        assert abs(counts - 5000).max() < 5 * np.sqrt(5000)  # 5 deviations of a binomial
        together = np.corrcoef(np.c_[found, found[::-1]].T) - np.eye(6)
        assert abs(together).max() < 5 / np.sqrt(len(found))


class TestOrder:
    def test_every_image_once_an_epoch(self):
        order = Order(0, 10, 4)
        row = [order.at(step) for step in range(15)]
        indices, epochs = (np.concatenate(part) for part in zip(*row, strict=True))
        assert [len(one.indices) for one in row] == [4] * 15
        for epoch in range(6):
            assert sorted(indices[epochs == epoch]) == list(range(10))
        assert [indices[:10].tolist()] != [indices[10:20].tolist()]

    def test_is_the_same_from_any_step_on(self):
        there, here = Order(1, 100, 7), Order(1, 100, 7)
        for step in range(30):
            there.at(step)
        assert np.array_equal(there.at(29).indices, here.at(29).indices)

    def test_epochs_end_where_their_last_image_is(self):
        order = Order(0, 10, 4)  # 0-3 4-7 8|1 2-5 6-9|
        assert [order.ends_epoch(step) for step in range(6)] == [
            False,
            False,
            True,
            False,
            True,
            False,
        ]
        assert order.steps(2) == 5
        assert order.steps(0.01) == 1


class TestLook:
    @pytest.mark.parametrize("side", [28, 96])
    def test_an_image_looks_the_same_in_any_batch(self, side):
        images = squares(6, side)
        together = look(side).trained(images, seen(range(10, 16), 3), side)
        alone = look(side).trained(images[4:5], seen([14], 3), side)
        assert torch.equal(together[4:5], alone)
        assert not torch.equal(together[4:5], look(side).trained(images[4:5], seen([14], 4), side))

    def test_judged_is_the_middle(self):
        images = squares(2, 32)
        found = look(28, 32).judged(images)
        assert torch.equal(found, images[..., 2:-2, 2:-2].float() / 255)

    def test_small_images_are_shifted_by_whole_pixels_and_mirrored(self):
        images = squares(600, 16)
        found = look(16).trained(images, seen(range(600)), 16)
        padded = F.pad(images.float() / 255, (2,) * 4)
        places = set()
        for one, wide in zip(found, padded, strict=True):
            places.add(next(
                (top, left, flip)
                for top in range(5) for left in range(5) for flip in (False, True)
                if torch.equal(one, _maybe_flipped(wide[:, top : top + 16, left : left + 16], flip))
            ))  # fmt: skip
        assert len(places) == 50  # every one of them comes up

    def test_without_mirroring_none_is_mirrored(self):
        left = squares(1, 16)
        left[..., 8:] = 0  # nothing but in the left half
        images = left.expand(50, 3, 16, 16)
        assert (look(16, mirror=False).trained(images, seen(range(50)), 16)[..., 10:] == 0).all()
        assert (look(16).trained(images, seen(range(50)), 16)[..., 10:] != 0).any()

    def test_large_images_are_cropped_and_resized(self):
        ramp = torch.arange(96, dtype=torch.float32).mul(2).round().to(torch.uint8)
        images = ramp.view(1, 1, 1, 96).expand(64, 3, 96, 96)
        found = look(96, strength="light").trained(images, seen(range(64)), 96)
        differences = found[:, 0, 0, 10:-10].diff(dim=-1)
        slopes = differences.mean(-1)
        assert (slopes > 0).sum() not in (0, 64)  # some are mirrored
        # a crop of the whole width has the ramp's own slope, a narrower one a gentler one
        assert 0.4 * 2 / 255 < slopes.abs().min() < slopes.abs().max() < 1.3 * 2 / 255

    def test_nothing_is_done_where_nothing_is_asked_for(self):
        images = squares(3, 32)
        one = look(32, strength="none")
        assert torch.equal(one.trained(images, seen(range(3)), 32), one.judged(images))

    def test_a_lower_resolution(self):
        found = look(96, 110).trained(squares(3, 110), seen(range(3)), 48)
        assert found.shape == (3, 3, 48, 48)

    def test_normalisation(self):
        how = Preprocessing(
            resize=8, crop=8, interpolation="bilinear", mean=(0.1, 0.2, 0.3), std=(0.5, 1, 2)
        )
        images = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
        found = Appearance(how, True, "none", 0).judged(images)[0, :, 0, 0]
        assert torch.allclose(found, torch.tensor([0.9 / 0.5, 0.8, 0.7 / 2]))


def _maybe_flipped(image, flip):
    return image.flip(-1) if flip else image
