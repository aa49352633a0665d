"""Slim trained networks as a user would, and judge what comes of it: what docs/slimming.md states.

    python bench/slimming/headline.py resnet56-half --weights WEIGHTS --recover 12min
    python bench/slimming/headline.py resnet56-unlabelled --weights WEIGHTS
    python bench/slimming/headline.py vgg16-eighth --weights WEIGHTS --recover 15min
    depthwise train PHOTOS --network mobilenet_v2 --time 10min --out clothing
    python bench/slimming/headline.py mobilenet-half --run clothing --recover 10min

WEIGHTS is a folder with resnet56_fashion.safetensors and vgg16_fashion.safetensors, trained on
Fashion-MNIST. Validation images decide whatever is chosen; the test images are read once, when all
is done. A case that was interrupted goes on.
"""

import argparse
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import depthwise as dw
from depthwise.bench.environment import describe_machine
from depthwise.report.slimming_record import SlimmingRecord
from depthwise.slimming.slimmed import RECORD
from depthwise.training.data.opening import open_dataset


@dataclass(frozen=True)
class Case:
    """A network, what it may cost, and whether it is trained afterwards.

    Attributes:
        network: Its name; empty for that of a run.
        budget: As `depthwise slim` takes it.
        more: Further options.
        recovers: Whether it is trained on labelled images.
    """

    network: str
    budget: str
    more: tuple[str, ...] = ()
    recovers: bool = True

    def command(self, options: argparse.Namespace, out: Path) -> list[str]:
        """Return the command that slims it. Raises SystemExit where something is not given."""
        needed = "weights" if self.network else "run"
        if getattr(options, needed) is None or (self.recovers and options.recover is None):
            raise SystemExit(f"give --{needed}{' and --recover' if self.recovers else ''}")
        what, data = [f"run:{options.run}"], options.data
        if self.network:
            file = options.weights / f"{self.network.removesuffix('_cifar')}_fashion.safetensors"
            what, data = [self.network, "--weights", str(file)], data or "fashion-mnist"
        else:
            data = data or dw.Run.open(options.run).record.data
        recovery = ["--recover", options.recover] if self.recovers else []
        return [
            sys.executable, "-m", "depthwise", "slim", *what, "--budget", self.budget, "--data",
            str(data), *recovery, *self.more, "--seed", str(options.seed), "--out", str(out),
        ]  # fmt: skip


CASES = {
    "resnet56-half": Case("resnet56_cifar", "50%"),
    "resnet56-quarter": Case("resnet56_cifar", "25%"),
    "resnet56-unlabelled": Case(
        "resnet56_cifar", "50%", ("--samples", "1000", "--mimic", "1min"), recovers=False
    ),
    "vgg16-eighth": Case("vgg16_cifar", "12.5%"),
    "mobilenet-0.7": Case("", "70%"),
    "mobilenet-half": Case("", "50%"),
}


def accuracy(what: Path, data: str) -> str:
    """Return the accuracy on the test images, or on those for validation where there are none."""
    images = open_dataset(data)
    split = "test" if images.test else "validation"
    return f"{dw.evaluate(what, images, split=split).result}, {split}"


def main() -> None:
    """Slim one network, and say what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--weights", type=Path, help="the folder of trained weights")
    parser.add_argument("--run", type=Path, help="of `depthwise train`, on photographs")
    parser.add_argument("--data", help="the images, else Fashion-MNIST or those of the run")
    parser.add_argument("--recover", help="how long it is trained afterwards")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("headline"), help="the results' folder")
    options = parser.parse_args()
    out = options.keep / f"{options.case}-seed-{options.seed}"
    start = time.perf_counter()
    command = CASES[options.case].command(options, out)
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    record = SlimmingRecord.model_validate_json((out / RECORD).read_bytes())
    data = command[command.index("--data") + 1]
    cores = used.ru_utime + used.ru_stime
    print(f"{options.case}, seed {options.seed}: {seconds:.0f} s, {cores:.0f} s of one core")
    print(f"{record.before.macs / 1e6:.1f} to {record.after.macs / 1e6:.1f} M MACs, "
          f"{record.before.parameters:,} to {record.after.parameters:,} parameters")  # fmt: skip
    print(f"{record.before.milliseconds:.3f} to {record.after.milliseconds:.3f} ms, "
          f"{record.ratio or float('nan'):.2f} times as fast")  # fmt: skip
    if (out / "original").is_dir():
        print(f"original: {accuracy(out / 'original', data)}")
    print(f"slimmed: {accuracy(out, data)}")
    print(describe_machine().processor)


if __name__ == "__main__":
    main()
