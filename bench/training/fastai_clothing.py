"""fastai's `fine_tune` on a folder of photographs, in so many minutes: what ours is held against.

In an environment of its own (`pip install fastai`):

    python bench/training/fastai_clothing.py FOLDER mobilenet_v2.pth --minutes 10

The defaults of fastai's own tutorials: `ImageDataLoaders.from_folder` with images resized to 224,
batches of 64, `vision_learner`, one epoch with the body frozen, then as many as there is time for;
`--augment` adds `aug_transforms()`. `fine_tune` counts epochs and not minutes, so that a few steps
are timed first to know how many fit. Weights come from the file that torchvision_weights.py wrote,
since fastai would download them. It knows nothing of torchvision's MobileNetV2, so that it is told
what it knows of its own networks: the body is all but the classifier, learning rates are split as
by default, and images are normalised by ImageNet's mean and deviation.
"""

import argparse
import json
import random
import time
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import torch
import torchvision
from fastai.vision.all import (
    ImageDataLoaders,
    Learner,
    Resize,
    accuracy,
    aug_transforms,
    imagenet_stats,
    vision_learner,
)
from fastai.vision.learner import default_split, model_meta

STEPS = 4  # timed, after one that is not


def learner(options: argparse.Namespace) -> Learner:
    """Return what fastai makes of the folder and the weights."""
    augment = aug_transforms() if options.augment else []
    data = ImageDataLoaders.from_folder(
        options.folder, train="train", valid="validation", item_tfms=Resize(224),
        batch_tfms=augment, seed=options.seed,
        bs=options.batch,
    )  # fmt: skip

    def mobilenet(pretrained: bool = True) -> torch.nn.Module:  # noqa: ARG001  (as fastai calls)
        net = torchvision.models.mobilenet_v2()
        net.load_state_dict(torch.load(options.weights))
        return net

    model_meta[mobilenet] = {"cut": -1, "split": default_split, "stats": imagenet_stats}
    return vision_learner(data, mobilenet, metrics=accuracy)


def seconds_per_epoch(learn: Learner, frozen: bool) -> float:
    """Return what an epoch takes, from a few steps and one batch of validation."""
    learn.freeze() if frozen else learn.unfreeze()
    batches, times = chain.from_iterable(repeat(learn.dls.train)), []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        images, labels = next(batches)
        learn.loss_func(learn.model.train()(images), labels).backward()
        times.append(time.perf_counter() - start)
        learn.model.zero_grad()
    step = sum(times[1:]) / STEPS
    start = time.perf_counter()
    with torch.inference_mode():
        learn.model.eval()(images)
    judged = time.perf_counter() - start
    return step * len(learn.dls.train) + judged * len(learn.dls.valid)


def main() -> None:
    """Fine-tune, and print how right it is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--batch", type=int, default=64, help="fastai's own is 64")
    parser.add_argument("--augment", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(options.seed)
    trial = learner(options)
    frozen, whole = seconds_per_epoch(trial, True), seconds_per_epoch(trial, False)
    epochs = max(1, int((60 * options.minutes - frozen) / whole))
    learn = learner(options)
    start = time.perf_counter()
    learn.fine_tune(epochs)
    seconds = time.perf_counter() - start
    scores, labels = learn.get_preds()
    right = int((scores.argmax(1) == labels).sum())
    print(
        json.dumps({
            "trainer": "fastai", "epochs": f"1 frozen, {epochs}", "seconds": round(seconds),
            "seed": options.seed, "right": right, "images": len(labels),
            "accuracy": right / len(labels),
        })
    )  # fmt: skip


if __name__ == "__main__":
    main()
