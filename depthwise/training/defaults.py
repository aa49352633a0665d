"""What is chosen where a recipe leaves it open: by the images, the network and the machine."""

from depthwise.training.recipe import Recipe

# Pixels up to which images are small: they are seen whole, by a stem of stride 1, since one of 2
# would lose too much; they are shifted, not cropped; and many fit into a batch.
SMALL = 64
EPOCHS = 30  # without a limit of time
EPOCHS_IN_TIME = 300  # at most, with one: it is to end the training, unless images are few
BATCHES = 128, 64  # images a step, of small images and of larger ones
STEPS = 20  # that an epoch has at least: batches of small sets are smaller
FEWEST = 8  # images a step, below which a batch's statistics say too little
RATES = {"sgd": 0.1, "adamw": 1e-3}  # for batches of 128
TUNED = 0.2  # of these, where weights are pretrained
ROUNDED = 0.05  # of these, where a trained network learns to be computed in eight bits
NORMS_FROZEN = 0.5  # of the training, at its end, where it does
DECAYS = {"sgd": 5e-4, "adamw": 0.05}


def fit_recipe(
    recipe: Recipe, resolution: int, images: int, pretrained: bool, processes: int = 1
) -> Recipe:
    """Return a recipe that leaves nothing open but its precision.

    Args:
        recipe: What the user chose.
        resolution: The pixels along an image's sides that the network sees.
        images: How many there are to learn from.
        pretrained: Whether the first weights have learned before.
        processes: How many learn together, each from as many images a step.

    Raises:
        ValueError: There are fewer images than processes.
    """
    usual = BATCHES[resolution > SMALL]
    batch = min(recipe.batch or min(usual, max(FEWEST, images // STEPS)), images)
    batch -= batch % processes
    if batch == 0:
        raise ValueError(
            f"{processes} processes cannot share a batch of fewer images: take fewer processes, or "
            f"a larger --batch; there are {images} images to learn from"
        )
    # in proportion to large batches (Goyal et al., arXiv:1706.02677); to the root of small ones,
    # which small sets have, and few steps to learn in
    growth = max(batch / 128, (batch / 128) ** 0.5)
    share = ROUNDED if recipe.quantize else TUNED if pretrained else 1
    rate = RATES[recipe.optimizer] * growth * share
    norms = NORMS_FROZEN if recipe.quantize else 0.0
    decay = recipe.weight_decay
    return recipe.model_copy(
        update={
            "epochs": recipe.epochs or (EPOCHS_IN_TIME if recipe.time else EPOCHS),
            "batch": batch,
            "learning_rate": recipe.learning_rate or rate,
            "weight_decay": DECAYS[recipe.optimizer] if decay is None else decay,
            "resolution": resolution,
            "frozen_norms": norms if recipe.frozen_norms is None else recipe.frozen_norms,
        }
    )
