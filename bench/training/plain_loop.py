"""Images a second: `dw.train` beside the plainest possible loop, in each precision.

    python bench/training/plain_loop.py bundled
    python bench/training/plain_loop.py ../photos --network mobilenet_v2 --precision fp32 bf16

Both learn with the same network, images, batch, optimiser and precision. The plain loop has its
images in memory as normalised float32 and does nothing but forward, loss, backward and step, its
network's layout PyTorch's own, and channels last as a third; ours decodes, augments, averages
weights and reports as it always does. They take turns, and the medians over all rounds are
compared. Time waited for images counts; judging and the first steps of a round do not.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthwise.bench.environment import describe_machine
from depthwise.hardware.load import Watch
from depthwise.training import Recipe, Run, train
from depthwise.training.data.dataset import Dataset
from depthwise.training.data.opening import open_dataset
from depthwise.training.data.squares import prepare
from depthwise.training.precision import DTYPES
from depthwise.training.run import LAST

WARM = 5  # steps of a round that are not timed


class Clock:
    """Notes when each step is done, and stops after some."""

    def __init__(self, steps: int):
        self.steps, self.times, self.asks_to_stop = steps, list[float](), False

    def step(self, *_: object) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())
        self.asks_to_stop = len(self.times) >= self.steps

    def epoch(self, *_: object) -> None:
        """Judging is not timed: a round has to end before an epoch does."""
        raise ValueError("an epoch is over before the round is: ask for fewer --steps")

    def say(self, text: str) -> None:
        """Print what is to be known, as that a precision is slow here."""
        print(text, flush=True)

    def rate(self, batch: int) -> float:
        """Return the images a second of the steps that count."""
        timed = self.times[WARM - 1 :]
        return batch * (len(timed) - 1) / (timed[-1] - timed[0])


def ours(data: Dataset, recipe: Recipe, network: str, clock: Clock, folder: Path) -> Run:
    """Train as everybody does; the clock stops it."""
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        return train(network, data, recipe, directory=directory, onlooker=clock)


def pixels_of(data: Dataset, run: Run, count: int) -> tuple[Tensor, Tensor]:
    """Return images as a plain loop's author would have them: normalised, in one tensor."""
    how, ready = run.record.preprocessing, prepare(data.train, run.record.preprocessing.resize)
    indices = torch.randperm(len(ready.labels))[:count].numpy()
    edge = (how.resize - how.crop) // 2
    squares = ready.squares.take(indices)[..., edge : edge + how.crop, edge : edge + how.crop]
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (how.mean, how.std))
    return (squares / 255 - mean) / std, torch.from_numpy(ready.labels[indices])


def plain(
    net: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, last: bool
) -> Callable[[Clock], None]:
    """Return the plain loop, with the network and its images in one of two layouts."""
    assert recipe.learning_rate is not None
    assert recipe.batch is not None
    if last:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), recipe.learning_rate, 0.9, nesterov=True)
    dtype, batch = DTYPES[recipe.precision], recipe.batch
    scaler = torch.amp.GradScaler("cpu", enabled=recipe.precision == "fp16")

    def loop(clock: Clock) -> None:
        net.train()
        while not clock.asks_to_stop:
            for chosen in torch.randperm(len(labels)).split(batch):
                with torch.autocast("cpu", dtype, enabled=recipe.precision != "fp32"):
                    loss = F.cross_entropy(net(images[chosen]), labels[chosen])
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                clock.step()
                if clock.asks_to_stop:
                    return

    return loop


def compare(options: argparse.Namespace, precision: str, data: Dataset, folder: Path) -> None:
    """Print a line for each way, in one precision."""
    asked = Recipe(batch=options.batch, precision=precision, epochs=1000)
    directory = folder / precision
    start = train(options.network, data, asked, directory=directory, onlooker=Clock(1))
    recipe = start.recipe
    assert recipe.batch is not None
    images, labels = pixels_of(data, start, options.steps * recipe.batch)
    ways: dict[str, Callable[[Clock], object]] = {
        "plain": plain(start.network(LAST), images, labels, recipe, False),
        "plain, channels last": plain(start.network(LAST), images, labels, recipe, True),
        "ours": lambda clock: ours(data, recipe, options.network, clock, folder),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            clock = Clock(options.steps)
            way(clock)
            rates[name].append(clock.rate(recipe.batch))
    best = max(median(rates[name]) for name in ways if name != "ours")
    for name, found in rates.items():
        spread = f"{min(found):,.0f} to {max(found):,.0f}"
        ratio = f", {median(found) / best:.2f} of the faster plain one" if name == "ours" else ""
        print(f"  {precision} {name}: {median(found):,.1f} images/s ({spread}){ratio}", flush=True)


def main() -> None:
    """Compare them in each precision."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--network", default="mobilenet_v3_small")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--precision", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=30, help="of a round")
    options = parser.parse_args()
    machine, data, watch = describe_machine(), open_dataset(options.data), Watch()
    print(
        f"{options.network} on {options.data}, {torch.get_num_threads()} threads, "
        f"{machine.processor}, PyTorch {torch.__version__}, {options.rounds} rounds"
    )
    with tempfile.TemporaryDirectory() as folder:
        for precision in options.precision:
            compare(options, precision, data, Path(folder))
    if disturbed := watch.load().disturbed:
        print(f"NO MEASUREMENT: {disturbed}")


if __name__ == "__main__":
    main()
