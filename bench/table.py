"""Measure the networks of the comparison, on one thread and on two.

    python bench/table.py bench/results/CPU          all of them, half an hour on a quiet machine
    python bench/table.py bench/results/CPU --threads 1 --only mobilenet_v2 resnet50
    python bench/table.py bench/results/CPU --show   the table of what lies there
    python bench/table.py bench/results/CPU --show --picture speed.svg  and one thread as a picture

Results of each CPU have a folder of its name. Each network is one call of `depthwise bench`, so
that one that cannot be measured stops no other; its file is NETWORK-THREADS.json.
`depthwise[bench]` installs what we are compared with.
"""

import argparse
import subprocess
import sys
from math import prod
from pathlib import Path

from rich.console import Console
from rich.table import Table

from depthwise.bench.record import BenchRecord, NetworkResult
from depthwise.report import speed_picture

GENERATOR, DEFORMABLE = "bench/networks.py:generator", "bench/networks.py:deformable"

# The share of the FMA peak on one thread, and how many times faster than the best peer, to reach.
GOALS: dict[str, tuple[float, float]] = {
    "mobilenet_v1": (0.92, 1.06),
    "mobilenet_v2": (0.88, 1.2),
    "mobilenet_v3_large": (0.80, 1.33),
    "mobilenet_v3_small": (0.70, 1.4),
    "ghostnet": (0.75, 1.75),
    "xception": (0.93, 1.04),
    "inception_v3": (1.0, 1.1),
    "resnet50": (1.0, 1.1),
    "se_resnet50": (1.0, 1.1),
    "googlenet_torchvision": (1.0, 1.1),
    GENERATOR: (0.7, 2.0),
    DEFORMABLE: (0.7, 2.0),
}
SHAPES = {GENERATOR: "1,100,1,1"}


def measure(network: str, threads: int, rounds: int, folder: Path) -> bool:
    """Write NETWORK-THREADS.json; return whether it was measured."""
    command = ["bench", network, "--threads", threads, "--rounds", rounds]
    command += ["--out", folder / f"{short(network)}-{threads}.json"]
    command += ["--shape", SHAPES[network]] if network in SHAPES else []
    whole = [sys.executable, "-m", "depthwise", *map(str, command)]
    return subprocess.run(whole, check=False).returncode == 0


def short(network: str) -> str:
    """Return a network's name without its file."""
    return network.rpartition(":")[2]


def read(folder: Path, threads: int) -> dict[str, NetworkResult]:
    """Return {network: what was measured} of the files for a number of threads."""
    found = {}
    for path in sorted(folder.glob(f"*-{threads}.json")):
        for record in BenchRecord.model_validate_json(path.read_text()).networks:
            found[record.network] = record
    return found


def results_table(folder: Path) -> Table:
    """Return a row a network: its share of the peak and what it gains, with the goals it has."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("network")
    for title in ("ms", "of peak", "goal", "1 thread", "best peer", "2 threads", "best peer",
                  "goal", "1 to 2"):  # fmt: skip
        table.add_column(title, justify="right")
    one, two = read(folder, 1), read(folder, 2)
    gains: dict[int, list[float]] = {1: [], 2: []}
    others = sorted({*one, *two} - set(GOALS))
    for network in (*GOALS, *others):
        goals = GOALS.get(network)
        share, gain = (f"{goals[0]:.2f}", f"{goals[1]:.2f}x") if goals else ("", "")
        busy = any(record.disturbed for record in (one.get(network), two.get(network)) if record)
        name = f"{short(network)} (no measurement: busy machine)" if busy else short(network)
        row = [name, *_share(one.get(network)), share]
        for threads, found in ((1, one), (2, two)):
            ratio, peer = _gain(found.get(network))
            row += [f"{ratio:.2f}x" if ratio else "", peer]
            gains[threads] += [ratio] if ratio else []
        table.add_row(*row, gain, _second(one.get(network), two.get(network)))
    means = {n: f"{prod(x) ** (1 / len(x)):.2f}x" if x else "" for n, x in gains.items()}
    table.add_section()
    table.add_row("geometric mean", "", "", "", means[1], "", means[2], "", "1.25x", "")
    return table


def _share(record: NetworkResult | None) -> tuple[str, str]:
    if record is None or record.ours.seconds is None:
        return "", ""
    return f"{1e3 * record.ours.seconds:.3f}", f"{record.times_peak(record.ours):.2f}"


def _gain(record: NetworkResult | None) -> tuple[float | None, str]:
    best = record.best_peer if record else None
    return (record.ratio(best), best.name) if record and best else (None, "")


def _second(one: NetworkResult | None, two: NetworkResult | None) -> str:
    if not (one and two and one.ours.seconds and two.ours.seconds):
        return ""
    return f"{one.ours.seconds / two.ours.seconds:.2f}x"


def main() -> int:
    """Measure, then print the table; return 1 where a network could not be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", help="names, without bench/networks.py")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    parser.add_argument(
        "--picture", type=Path, help="an .svg or .png to draw one thread's results to"
    )
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    wanted = [n for n in GOALS if not given.only or short(n) in given.only]
    runs = [] if given.show else [(n, t) for t in given.threads for n in wanted]
    measured = [measure(network, threads, given.rounds, given.folder) for network, threads in runs]
    Console(width=140).print(results_table(given.folder))
    if given.picture:
        paths = sorted(given.folder.glob("*-1.json"))
        speed_picture(
            [BenchRecord.model_validate_json(p.read_text()) for p in paths], given.picture
        )
    return 0 if all(measured) else 1


if __name__ == "__main__":
    sys.exit(main())
