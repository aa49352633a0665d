"""Kill a training without warning again and again, resume it, and compare it with one never killed.

    python bench/training/kill_and_resume.py            20 kills, two minutes on two cores

A training of a tiny network in float32 is run once from start to end. Then the same is run in
processes that get SIGKILL at random moments, in the middle of steps, epochs and files. After each
kill every file of weights is opened. At the end all weights, the history and the result, but for
its times, have to be equal, bit by bit. The state is written every 50 ms here, and not every half
minute, so that many kills fall into its writing. Ends with code 1 where anything differs.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from depthwise.sources.spec import is_run
from depthwise.training import Recipe, Run, keeper, resume, train
from depthwise.training.data.arrays import ArrayImages
from depthwise.training.data.dataset import Dataset, ImageSplit
from depthwise.training.state import read_state

SIDE, IMAGES = 16, 500
TIMES = {"seconds", "images_per_second", "waiting"}  # which no two runs have alike
NETWORK = f"{Path(__file__).resolve()}:tiny"


def tiny(num_classes: int = 10) -> nn.Module:
    """Return the network: with BatchNorm and dropout, whose state and draws must go on, too."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, num_classes),
    )  # fmt: skip


def images() -> Dataset:
    """Return images of noise, each with a bright row that is its class."""

    def split(count: int, seed: int) -> ImageSplit:
        labels = np.arange(count) % 4
        pixels = np.random.default_rng(seed).integers(0, 120, (count, SIDE, SIDE, 3), np.uint8)
        for picture, label in zip(pixels, labels, strict=True):
            picture[4 * label : 4 * label + 4] += 60
        return ImageSplit(ArrayImages("made", pixels, np.arange(count)), labels)

    return Dataset("made", ("a", "b", "c", "d"), split(IMAGES, 0), split(100, 1), None)


def learn(directory: Path, epochs: float) -> None:
    """Begin the training, or go on with it."""
    torch.set_num_threads(1)
    keeper.SAVE_EVERY = 0.05
    if is_run(directory):
        resume(directory, images())
    else:
        recipe = Recipe(epochs=epochs, batch=16, precision="fp32", seed=3)
        train(NETWORK, images(), recipe, directory=directory)


def begin(directory: Path, epochs: float) -> int:
    """Return the process that `learn`s."""
    process = os.fork()
    if process == 0:
        try:
            learn(directory, epochs)
            os._exit(0)
        except BaseException as error:
            print(f"the training failed: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
    return process


def kill_after(process: int, seconds: float) -> bool:
    """Send SIGKILL after some seconds; tell whether that ended the process, and not its own end."""
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit("a training failed: see above")
    return os.WIFSIGNALED(status)


def check(directory: Path) -> str:
    """Open all that a killed training left; return where it stands, in words."""
    for path in directory.glob("*.safetensors"):
        load_file(path)
    if not is_run(directory):
        return "nothing kept yet"
    Run.open(directory)
    found = read_state(directory)
    assert found is not None
    return f"step {found[0].step}"


def differences(one: Path, other: Path) -> list[str]:
    """Return what differs between two runs."""
    found = []
    for name in ("last", "best", "state"):
        first, second = (load_file(each / f"{name}.safetensors") for each in (one, other))
        found += [
            f"{name}.safetensors: {key}"
            for key in first.keys() | second.keys()
            if key not in first or key not in second or not torch.equal(first[key], second[key])
        ]
    histories = [(each / "history.jsonl").read_text().splitlines() for each in (one, other)]
    rows = [[_timeless(json.loads(line)) for line in lines] for lines in histories]
    results = [_timeless(json.loads((each / "result.json").read_text())) for each in (one, other)]
    found += ["history.jsonl"] if rows[0] != rows[1] else []
    return found + (["result.json"] if results[0] != results[1] else [])


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in TIMES}


def main() -> None:
    """Run the whole comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        start = time.perf_counter()
        _, status = os.waitpid(begin(whole, options.epochs), 0)
        if status:
            sys.exit("a training failed: see above")
        seconds = time.perf_counter() - start
        print(f"never killed: {check(whole)} after {seconds:.1f} s")
        for number in range(1, options.kills + 1):
            after = draw.uniform(0, 1.5 * seconds / options.kills)
            if not kill_after(begin(killed, options.epochs), after):
                sys.exit(f"the training ended before kill {number}: ask for more --epochs")
            print(f"kill {number} after {after:.2f} s: {check(killed)}", flush=True)
        _, status = os.waitpid(begin(killed, options.epochs), 0)
        found = ["it failed"] if status else differences(whole, killed)
        left = [path.name for path in killed.iterdir() if path.name.startswith(".")]
        print(f"resumed to {check(killed)}; unfinished files that are left: {len(left)}")
    if found:
        sys.exit(f"DIFFERENT: {', '.join(sorted(found))}")
    print(f"equal after {options.kills} kills: weights, averages, momenta, history and result")


if __name__ == "__main__":
    main()
