"""Train with several seeds, and print mean and spread: what the table in docs/training.md states.

    python bench/training/seeds.py fashion-mnist --time 15min
    python bench/training/seeds.py bundled --time 4min
    python bench/training/seeds.py ../photos --network mobilenet_v2 --time 10min

Whatever follows the data goes to `depthwise train` as it is. Runs are kept in a folder of their
own, and those that are finished are not trained again.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

from depthwise.bench.environment import describe_machine
from depthwise.hardware.load import Watch
from depthwise.sources.spec import is_run
from depthwise.training import Run
from depthwise.training.history import read_history


def is_finished(directory: Path) -> bool:
    """Return whether a directory holds a run that was trained to its end."""
    return is_run(directory) and Run.open(directory).result is not None


def train(directory: Path, seed: int, data: str, rest: list[str]) -> None:
    """Train with a seed, or go on with it."""
    command = [sys.executable, "-m", "depthwise", "train"]
    if is_run(directory):
        command += ["--resume", str(directory)]
    else:
        command += [data, *rest, "--seed", str(seed), "--out", str(directory)]
    subprocess.run(command, check=True)


def describe(run: Run) -> tuple[float, str]:
    """Return the accuracy of a run, of the test split where there is one, and a line on it."""
    result, epochs = run.result, read_history(run.directory)
    assert result is not None
    found = result.test or result.validation
    waiting = fmean(epoch.waiting for epoch in epochs)
    rate = fmean(epoch.images_per_second for epoch in epochs)
    return found.accuracy, (
        f"seed {run.recipe.seed}: {found}, {'test' if result.test else 'validation'}; "
        f"{result.seconds:.0f} s, {len(epochs)} epochs, {rate:,.0f} images/s, "
        f"{waiting:.1%} of it waiting for images, {run.recipe.precision}"
    )


def main() -> None:
    """Train with each seed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path, default=Path("seeds"), help="the runs' folder")
    options, rest = parser.parse_known_args()
    watch, accuracies, busy = Watch(), [], ""
    for seed in range(options.seeds):
        directory = options.keep / f"seed-{seed}"
        if not is_finished(directory):
            train(directory, seed, options.data, rest)
            busy = watch.load().disturbed
        accuracy, said = describe(Run.open(directory))
        accuracies.append(accuracy)
        print(said, flush=True)
    spread = f", deviation {100 * stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    low, high = 100 * min(accuracies), 100 * max(accuracies)
    print(
        f"mean of {len(accuracies)}: {100 * fmean(accuracies):.2f} %{spread}, {low:.2f} to "
        f"{high:.2f}; {describe_machine().processor}"
    )
    if busy:
        print(f"TIME-LIMITED ON A BUSY MACHINE, NO MEASUREMENT: {busy}")


if __name__ == "__main__":
    main()
