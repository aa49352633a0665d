"""MixUp, CutMix and RandAugment against closed forms and torchvision's functions."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from depthwise.training.augment import Appearance
from depthwise.training.data.squares import HeldSquares, Prepared
from depthwise.training.feed import Feed
from depthwise.training.losses import CrossEntropy
from depthwise.training.mixing import Mixing, Targets, _quantiles
from depthwise.training.order import Order, Seen
from depthwise.training.randaugment import COLOURS, KINDS, MOVES, Changes
from depthwise.training.recipe import Recipe
from depthwise.weights import Preprocessing

PLAIN = Preprocessing(resize=16, crop=16, interpolation="bilinear", mean=(0,) * 3, std=(1,) * 3)
EVERY = slice(None)
BOTH = Mixing(0.4, 1.0, 3)


def seen(count, epoch=0):
    return Seen(np.arange(count), np.full(count, epoch))


def prepared(count=20, side=16):
    """Return images that are told apart by their values: image i has the class i % 5."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, side, side), np.uint8)
    return Prepared(HeldSquares(pixels), np.arange(count) % 5, [str(i) for i in range(count)], ())


class TestShares:
    @pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 2.0, 8.0])
    def test_moments_are_those_of_the_beta_distribution(self, alpha):
        values = _quantiles((np.arange(100_000) + 0.5) / 100_000, alpha)
        assert values.mean() == pytest.approx(0.5, abs=1e-6)
        assert values.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=1e-4)

    def test_quantiles_in_closed_form(self):
        """Alpha 1 is uniform; alpha 1/2 is the arcsine distribution."""
        chances = np.array([0.01, 0.2, 0.5, 0.7, 0.999])
        assert _quantiles(chances, 1.0) == pytest.approx(chances, abs=1e-6)
        arcsine = np.sin(np.pi * chances / 2) ** 2
        assert _quantiles(chances, 0.5) == pytest.approx(arcsine, abs=1e-6)


class TestMixUp:
    mixing = Mixing(0.4, 0.0, 3)

    def test_images_and_labels_have_the_same_shares(self):
        images, others = torch.zeros(50, 3, 4, 4), torch.ones(50, 3, 4, 4)
        mixed, shares = self.mixing.mix(images, others, seen(50))
        torch.testing.assert_close(1 - mixed, shares.view(-1, 1, 1, 1).expand_as(mixed))
        assert shares.unique().numel() == 50  # each its own

    def test_partners_are_other_images_and_follow_from_seed_epoch_and_index(self):
        partners = self.mixing.partners(seen(1000), 1000)
        assert (partners.indices != np.arange(1000)).all()
        assert 500 < len(np.unique(partners.indices)) < 750  # 632 of independent draws
        one = Seen(np.array([17]), np.array([0]))
        assert self.mixing.partners(one, 1000).indices[0] == partners.indices[17]
        assert (self.mixing.partners(seen(1000, 1), 1000).indices != partners.indices).mean() > 0.9
        for epoch in range(50):
            assert (self.mixing.partners(seen(3, epoch), 3).indices != np.arange(3)).all()
        assert self.mixing.partners(seen(1), 1).indices.tolist() == [0]


class TestCutMix:
    mixing = Mixing(0.0, 1.0, 3)

    def test_a_rectangle_of_the_partner(self):
        images, others = torch.zeros(40, 3, 12, 12), torch.ones(40, 3, 12, 12)
        mixed, shares = self.mixing.mix(images, others, seen(40))
        torch.testing.assert_close(1 - mixed.mean((1, 2, 3)), shares)
        for image in mixed[:, 0]:
            rows, columns = image.any(1), image.any(0)
            assert torch.equal(image.bool(), rows[:, None] & columns)
            assert rows.int().diff().abs().sum() <= 2  # one stretch
            assert columns.int().diff().abs().sum() <= 2
        assert mixed.mean((1, 2, 3)).unique().numel() > 10

    def test_both_means_one_or_the_other(self):
        images, others = torch.zeros(200, 3, 12, 12), torch.ones(200, 3, 12, 12)
        mixed, _ = Mixing(0.4, 1.0, 3).mix(images, others, seen(200))
        whole = [bool(((image == 0) | (image == 1)).all()) for image in mixed]
        assert 70 < sum(whole) < 130


def test_the_loss_of_mixtures_is_the_mixture_of_losses():
    """With smoothing, too: -sum q log p with q = (1 - s) (m a + (1 - m) b) + s / classes."""
    scores = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    labels, others = torch.tensor([0, 1, 2, 3, 4, 0]), torch.tensor([1, 1, 0, 4, 2, 3])
    shares = torch.tensor([0.1, 0.5, 0.9, 1.0, 0.0, 0.3])
    found = CrossEntropy(0.1)(scores, scores, Targets(labels, others, shares))
    log = scores.double().log_softmax(1)
    expected = 0.0
    for row, a, b, m in zip(log, labels, others, shares.double(), strict=True):
        expected -= 0.9 * (m * row[a] + (1 - m) * row[b]) + 0.1 * row.mean()
    assert found.item() == pytest.approx(expected.item() / 6, rel=1e-6)
    plain = CrossEntropy(0.1)(scores, scores, Targets(labels))
    assert torch.equal(plain, F.cross_entropy(scores, labels, label_smoothing=0.1))


class TestFeed:
    def batch(self, share=EVERY, mixing=BOTH):
        feed = Feed(prepared(), Order(0, 20, 8), torch.device("cpu"), share, mixing)
        batches = feed.since(1)
        try:
            return next(batches)
        finally:
            batches.close()

    def test_partners_come_with_their_own_labels(self):
        batch, data = self.batch(), prepared()
        assert len(batch.partners.labels) == 8
        own = data.squares.take(batch.partners.seen.indices)
        assert torch.equal(batch.partners.squares, own)
        assert batch.partners.labels.tolist() == (batch.partners.seen.indices % 5).tolist()
        assert self.batch(mixing=None).partners is None

    def test_the_same_with_other_numbers_of_processes(self):
        """Two processes see together what one does, their partners included."""
        look = Appearance.of(PLAIN, Recipe(augment="rand"))

        def mixed(batch):
            own, other = (
                look.trained(each.squares, each.seen, 16) for each in (batch, batch.partners)
            )
            return BOTH.mix(own, other, batch.seen)

        whole, shares = mixed(self.batch())
        halves = [mixed(self.batch(slice(start, None, 2))) for start in (0, 1)]
        for start, (images, own) in enumerate(halves):
            torch.testing.assert_close(images, whole[start::2], rtol=0, atol=1e-6)
            assert torch.equal(own, shares[start::2])

    def test_parts_are_the_batch_together(self):
        batch = self.batch()
        parts = list(batch.parts(3))
        assert [len(part.labels) for part in parts] == [3, 2, 3]
        for get in (lambda b: b.squares, lambda b: b.labels, lambda b: b.partners.squares):
            assert torch.equal(torch.cat([get(part) for part in parts]), get(batch))
        kept = np.concatenate([part.partners.seen.indices for part in parts])
        assert (kept == batch.partners.seen.indices).all()


def one_change(kind, level, count=2):
    kinds = np.zeros((count, 2), np.int64)
    kinds[0, 1] = KINDS.index(kind)  # of the first image alone
    return Changes(kinds, np.full((count, 2), level))


def photograph(count=2, side=24):
    """Return smooth images with whole values of 255, as the decoded ones are."""
    random = np.random.default_rng(1).integers(0, 256, (count, 3, 5, 5), np.uint8)
    smooth = F.interpolate(torch.tensor(random).float(), side, mode="bicubic").clamp(0, 255)
    return smooth.round() / 255


class TestRandAugment:
    @pytest.mark.parametrize(
        ("kind", "level", "expected"),
        [
            ("brightness", 0.5, lambda x: v2.functional.adjust_brightness(x, 1.45)),
            ("contrast", -0.5, lambda x: v2.functional.adjust_contrast(x, 0.55)),
            ("saturation", 0.5, lambda x: v2.functional.adjust_saturation(x, 1.45)),
            ("sharpness", 0.5, lambda x: v2.functional.adjust_sharpness(x, 1.45)),
            ("solarize", 0.3, lambda x: v2.functional.solarize(x, 0.7)),
            ("autocontrast", 0.1, v2.functional.autocontrast),
            ("equalize", 0.1, v2.functional.equalize),
            (
                "posterize",
                -0.5,
                lambda x: v2.functional.posterize((x * 255).round().byte(), 6).float() / 255,
            ),
        ],
    )
    def test_colours_are_those_of_torchvision(self, kind, level, expected):
        pixels = photograph()
        found = one_change(kind, level).recolored(pixels)
        torch.testing.assert_close(found[:1], expected(pixels[:1]), rtol=0, atol=2e-6)
        assert not torch.equal(found[0], pixels[0])
        assert torch.equal(found[1], pixels[1])  # the other image has a change of its own: none

    @pytest.mark.parametrize(
        ("kind", "arguments"),
        [
            ("rotate", {"angle": 15.0}),
            ("shear x", {"shear": [math.degrees(math.atan(0.15)), 0.0]}),
            ("shear y", {"shear": [0.0, math.degrees(math.atan(0.15))]}),
            ("translate x", {"translate": [-0.5 * 24 * 150 / 331, 0.0]}),
            ("translate y", {"translate": [0.0, -0.5 * 24 * 150 / 331]}),
        ],
    )
    def test_moves_are_those_of_torchvision(self, kind, arguments):
        from depthwise.training.augment import _sampled

        given = {"angle": 0.0, "translate": [0.0, 0.0], "scale": 1.0, "shear": [0.0, 0.0]}
        bilinear = v2.InterpolationMode.BILINEAR
        found = one_change(kind, 0.5).moved()[:, :2]
        moved = _sampled(photograph(), found, 24, "zeros")
        translate = (given | arguments).pop("translate")
        if translate != [0.0, 0.0]:  # torchvision's tensors move by whole pixels alone
            theta = torch.tensor([[[1.0, 0, -translate[0] / 12], [0, 1, -translate[1] / 12]]])
            grid = F.affine_grid(theta, [1, 3, 24, 24], align_corners=False)
            wanted = F.grid_sample(photograph()[:1], grid, align_corners=False)
        else:
            wanted = v2.functional.affine(
                photograph()[:1], **(given | arguments), interpolation=bilinear
            )
        torch.testing.assert_close(moved[:1], wanted, rtol=0, atol=1e-4)
        torch.testing.assert_close(moved[1], photograph()[1], rtol=0, atol=1e-5)

    def test_two_moves_are_one_after_the_other(self):
        changes = Changes(
            np.array([[KINDS.index("translate x"), KINDS.index("rotate")]]), np.array([[0.5, 0.5]])
        )
        angle, step = math.radians(15), 150 / 331
        turn = [[math.cos(angle), math.sin(angle), 0], [-math.sin(angle), math.cos(angle), 0]]
        move = np.array([[1, 0, step], [0, 1, 0], [0, 0, 1]])
        assert changes.moved()[0] == pytest.approx(move @ [*turn, [0, 0, 1]])

    def test_every_kind_is_drawn_alike_and_follows_from_seed_epoch_and_index(self):
        changes = Changes.drawn(5, seen(14_000))
        assert len(KINDS) == 14 == 1 + len(MOVES) + len(COLOURS)
        counts = np.bincount(changes.kinds.ravel(), minlength=14)
        assert (abs(counts - 2000) < 200).all()
        assert abs(changes.levels).max() < 0.6
        assert abs(abs(changes.levels).mean() - 0.3) < 0.01
        one = Changes.drawn(5, Seen(np.array([7]), np.array([0])))
        assert one.kinds.tolist() == changes.kinds[7:8].tolist()

    @pytest.mark.parametrize(("side", "count"), [(16, 400), (72, 30)])
    def test_it_differs_from_light_and_is_right_where_nothing_was_drawn(self, side, count):
        """The same crops, mirrored alike: whole-pixel windows where images are small."""
        how = PLAIN.model_copy(update={"resize": side, "crop": side})
        squares = prepared(count, side).squares.take(np.arange(count))
        light, rand = (
            Appearance.of(how, Recipe(augment=name)).trained(squares, seen(count), side)
            for name in ("light", "rand")
        )
        still = (Changes.drawn(0, seen(count)).kinds == 0).all(1)
        if side == 16:
            assert still.any()
            torch.testing.assert_close(rand[still], light[still], rtol=0, atol=1e-4)
        assert ((rand - light).abs().amax((1, 2, 3)) > 0.01)[~still].float().mean() > 0.8
        assert rand.shape == light.shape
