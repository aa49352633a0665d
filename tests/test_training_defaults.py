"""What is chosen where a recipe leaves it open: batches and learning rates."""

import pytest

from depthwise.training import Recipe
from depthwise.training.defaults import fit_recipe


@pytest.mark.parametrize(
    ("images", "resolution", "chosen", "batch", "rate"),
    [
        (54_000, 28, {}, 128, 0.1),
        (54_000, 224, {}, 64, 0.1 * 0.5**0.5),
        (400, 28, {}, 20, 0.1 * (20 / 128) ** 0.5),  # 20 steps an epoch
        (40, 28, {}, 8, 0.025),  # no fewer than 8, whose root is a quarter of 128's
        (54_000, 28, {"batch": 1024}, 1024, 0.8),  # in proportion, above 128
        (54_000, 28, {"optimizer": "adamw"}, 128, 1e-3),
        (54_000, 28, {"learning_rate": 0.3, "batch": 64}, 64, 0.3),
    ],
)
def test_batches_and_rates_fit_the_images(images, resolution, chosen, batch, rate):
    fitted = fit_recipe(Recipe(**chosen), resolution, images, pretrained=False)
    assert fitted.batch == batch
    assert fitted.learning_rate == pytest.approx(rate)


@pytest.mark.parametrize(
    ("chosen", "epochs"),
    [({}, 30), ({"time": 60.0}, 300), ({"epochs": 2}, 2), ({"epochs": 2, "time": 60.0}, 2)],
)
def test_a_limit_of_time_ends_the_training_and_not_epochs_that_nobody_asked_for(chosen, epochs):
    assert fit_recipe(Recipe(**chosen), 28, 400, pretrained=False).epochs == epochs
