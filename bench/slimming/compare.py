"""Slim one trained network in every way, and train all that comes of it on equally many images.

    depthwise train bundled --network resnet20_cifar --epochs 60 --out start
    python bench/slimming/compare.py start --shares 0.5 0.25 0.125 --epochs 20

The small networks that begin anew are trained on all the images that the others have seen, those
of the first training included. Ways of other tools need these: `pip install torch-pruning`,
`pip install fasterai`. Each row is kept in a file as soon as it is there, and is not done again.
Accuracy is that of the test images, which nothing was chosen by; the time is that of the compiled
library, beside the original's in the same rounds.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from ways import ANEW, WAYS, Start, macs_of

import depthwise as dw
from depthwise.bench.environment import describe_machine
from depthwise.compiler.options import CompileOptions
from depthwise.slimming.costs.clock import Clock
from depthwise.training.data.opening import open_dataset


def train_further(
    start: Start, way: str, share: float, options: argparse.Namespace
) -> dict[str, Any]:
    """Slim in one way, train, and return the row of it."""
    directory = options.keep / f"{way}-{share:g}-{options.seed}{'-taught' if options.teach else ''}"
    row = directory.with_suffix(".json")
    if row.is_file():
        return json.loads(row.read_text())
    net = WAYS[way](start, share)
    epochs = options.epochs + (options.first if way in ANEW else 0)
    recipe = dw.Recipe(
        epochs=epochs, seed=options.seed, resolution=start.shape[-1],
        teacher=str(start.run.directory) if options.teach else None,
    )  # fmt: skip
    run = dw.train(net, start.data, recipe, directory=directory)
    result, trained = run.result, run.network()
    assert result is not None
    clock = Clock(dw.open(start.run.network(), start.shape).graph, CompileOptions())
    found = {
        "way": way, "share": share, "seed": options.seed, "epochs": epochs, "taught": options.teach,
        "macs": macs_of(trained, start), "parameters": sum(p.numel() for p in trained.parameters()),
        "validation": result.validation.accuracy,
        "test": result.test.accuracy if result.test else None,
        "faster": clock.beside(dw.open(trained, start.shape).graph).ratios[1],
    }  # fmt: skip
    row.write_text(json.dumps(found) + "\n")
    return found


def main() -> None:
    """Print a row for each way and share."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="the directory of the network's training")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.25, 0.125])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--epochs", type=float, default=20, help="that all are trained further")
    parser.add_argument("--shelf", default="mobilenet_v2")
    parser.add_argument("--teach", action="store_true", help="whether all learn from the original")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("slimmed"), help="the rows' folder")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    run = dw.Run.open(options.run)
    options.first = run.recipe.epochs
    start = Start(
        run, open_dataset(run.record.data, seed=run.recipe.seed), options.shelf, {"stem_stride": 1}
    )
    print(f"{run.record.network}: {start.macs / 1e6:.2f} M MACs; {describe_machine().processor}")
    for share in options.shares:
        for way in options.ways:
            found = train_further(start, way, share, options)
            print(
                f"{share:<6g} {way:<24} {found['macs'] / 1e6:7.2f} M MACs "
                f"{found['parameters']:>9,} parameters  validation {found['validation']:.2%}  "
                f"test {found['test'] or float('nan'):.2%}  {found['faster']:.2f} times as fast",
                flush=True,
            )


if __name__ == "__main__":
    main()
