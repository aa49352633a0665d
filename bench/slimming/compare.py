"""Slim one trained network in every way, and train all that comes of it on equally many images.

    depthwise train bundled --network resnet20_cifar --epochs 40 --out start
    python bench/slimming/compare.py start make train time

`make` slims and compiles, `train` trains, on a machine that may do other things meanwhile; `time`
times all in turns with the original, and should be alone. Each row is kept in `--keep` as far as it
has come, and nothing is done again. Without a stage the table of what is there is printed.

All are trained by the same loop in one cycle, those that begin anew on all the images that the
others have seen, those of the first training included. Validation images choose the epoch; the test
images are read once for each row. Ways of other tools need these: `pip install torch-pruning`,
`pip install fasterai` (0.4.1 with `fastprogress<1.1`).
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equal_time import say_equal_time
from ways import ANEW, WAYS, Start

import depthwise as dw
from depthwise.analysis.count import count_all_macs
from depthwise.compiler.options import CompileOptions
from depthwise.graph import Graph, open_graph, save_graph
from depthwise.graph.exporters.torch import to_module
from depthwise.slimming.costs.clock import Clock
from depthwise.slimming.costs.measuring import compile_draft
from depthwise.training.data.opening import open_dataset

# The highest learning rate, of SGD at batches of 128: of weights that have learned, as
# `slim --recover` trains, and of random ones, as `depthwise train` does.
LEARNED_RATE, RANDOM_RATE = 0.05, 0.1


@dataclass(frozen=True, eq=False)
class Case:
    """A row of the table: what came of one way, share and seed is in its folder."""

    start: Start
    way: str
    share: float
    seed: int
    options: argparse.Namespace

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.options.keep / f"{self.way}-{self.share:g}-{self.seed}"

    @property
    def graph(self) -> Graph:
        """What came of slimming."""
        return open_graph(self.folder / "made.safetensors")

    @property
    def row(self) -> dict[str, Any]:
        """What is known of it so far; nothing where it was not made."""
        parts = sorted(self.folder.glob("*.row.json"))
        return {key: value for part in parts for key, value in json.loads(part.read_text()).items()}

    def keep(self, stage: str, found: Callable[[], dict[str, Any]]) -> None:
        """Keep what a stage finds, unless it is there."""
        path = self.folder / f"{stage}.row.json"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(found())
            path.write_text(text + "\n")


def make(case: Case) -> dict[str, Any]:
    """Slim in one way, and compile."""
    made = WAYS[case.way](case.start, case.share, case.seed)
    # a graph may take smaller images than the original
    graph = made if isinstance(made, Graph) else dw.open(made, case.start.shape).graph
    save_graph(graph, case.folder / "made.safetensors")
    compile_draft(graph, CompileOptions())
    return {
        "way": case.way, "share": case.share, "seed": case.seed, "macs": count_all_macs(graph),
        "parameters": sum(known.type.size for known in graph.constants.values() if known.trainable),
    }  # fmt: skip


def train(case: Case) -> dict[str, Any]:
    """Train what was made."""
    anew = case.way in ANEW
    graph = case.graph
    (taken,) = graph.inputs.values()
    recipe = dw.Recipe(
        epochs=case.options.epochs + (case.start.run.recipe.epochs if anew else 0),
        seed=case.seed, resolution=taken.shape[-1], precision=case.options.precision,
        learning_rate=RANDOM_RATE if anew else LEARNED_RATE,
    )  # fmt: skip
    net = to_module(graph)
    run = dw.train(net, case.start.data, recipe, directory=case.folder / "run")
    assert run.result is not None
    assert run.result.test is not None
    return {
        "epochs": recipe.epochs, "validation": run.result.validation.accuracy,
        "test": run.result.test.accuracy,
    }  # fmt: skip


def time(case: Case) -> dict[str, Any]:
    """Time it in turns with the original."""
    timing = Clock(case.start.graph, CompileOptions()).beside(case.graph)
    return {"milliseconds": timing.milliseconds[1], "faster": timing.ratios[1]}


STAGES: dict[str, Callable[[Case], dict[str, Any]]] = {"make": make, "train": train, "time": time}


def say_row(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    done = f"{row['macs'] / 1e6:6.2f} M MACs {row['parameters']:>9,} parameters"
    accuracies = (f"{name} {row[name]:.2%}" for name in ("validation", "test") if name in row)
    timed = f"{row['faster']:.2f} times as fast" if "faster" in row else ""
    name = f"{row['share']:<6g} {row['way']:<24} seed {row['seed']}"
    return "  ".join([name, done, *accuracies, timed])


def main() -> None:
    """Do the stages that are named for every row, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="the directory of the network's training")
    parser.add_argument("stages", nargs="*", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.25, 0.125])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=float, default=6, help="that all are trained further")
    parser.add_argument("--precision", default="bf16", help="that all are trained in")
    parser.add_argument("--shelf", default="mobilenet_v2")
    parser.add_argument("--keep", type=Path, default=Path("compared"), help="the rows' folder")
    options = parser.parse_args()
    if strange := set(options.stages) - set(STAGES):
        parser.error(f"no stage is named {', '.join(strange)}: there are {', '.join(STAGES)}")
    run = dw.Run.open(options.run)
    data = open_dataset(run.record.data, seed=run.recipe.seed)
    start = Start(run, data, options.shelf, {"stem_stride": 1})
    cases = [
        Case(start, way, share, seed, options)
        for share in options.shares for seed in options.seeds for way in options.ways
    ]  # fmt: skip
    for stage in options.stages:
        for case in cases:
            if stage == "make" or "macs" in case.row:
                case.keep(stage, lambda case=case, stage=stage: STAGES[stage](case))
                print(f"{stage}: {say_row(case.row)}", flush=True)
    rows = [row for case in cases if (row := case.row)]
    print("\n".join(map(say_row, rows)))
    for line in say_equal_time(rows, run.result.test.accuracy if run.result.test else None):
        print(line)


if __name__ == "__main__":
    main()
