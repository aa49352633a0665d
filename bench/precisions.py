"""Measure networks in each precision beside OpenVINO: the tables of docs/precision.md.

    python bench/precisions.py prepare FOLDER               quantise them, some minutes
    python bench/precisions.py measure FOLDER RESULTS       on one thread and on two, half an hour
    python bench/precisions.py measure FOLDER RESULTS --target x86-64-vnni --precisions int8
    python bench/precisions.py show RESULTS                 the table of what lies there

Networks have random weights and BatchNorms that know noise, and are quantised by its ranges: times
do not depend on numbers. RESULTS has a NETWORK-THREADS.json for each call of `depthwise bench`.
`depthwise[bench]` installs OpenVINO.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import geometric_mean

import numpy as np
import torch
from torch import nn

import depthwise as dw
from depthwise.bench.record import BenchRecord, NetworkResult
from depthwise.escaping import counted
from depthwise.families import find_network
from depthwise.precision.options import QuantizationOptions

MOBILE = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "ghostnet")
LARGE = ("resnet50", "se_resnet50", "inception_v3", "googlenet", "xception")
IMAGES, ROUNDS = 16, 5
OURS, PEER = "depthwise", "openvino"
COLUMNS = (
    *((OURS, precision) for precision in ("float32", "bfloat16", "int8")),
    *((PEER, how) for how in ("float32", "default", "bfloat16", "int8 by depthwise")),
)


def prepare(network: str, folder: Path) -> None:
    """Quantise a network with random weights; one that is there already stays."""
    if (folder / network).is_dir():
        return
    side = find_network(network).resolution
    shape = (IMAGES, 3, side, side)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    torch.manual_seed(0)
    net = dw.create_model(network).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all images that it sees
    with torch.no_grad():
        net(torch.from_numpy(x))
    options = QuantizationOptions("minmax", ())
    dw.quantize(net.eval(), (1, *shape[1:]), x, options=options).save(folder / network)


def measure(network: str, threads: int, given: argparse.Namespace) -> bool:
    """Write NETWORK-THREADS.json; return whether it was measured."""
    command = [
        "bench", f"quantized:{given.folder / network}", "--precision", given.precisions,
        "--peers", PEER, "--rounds", ROUNDS, "--threads", threads, "--target", given.target,
        "--out", given.results / f"{network}-{threads}.json",
    ]  # fmt: skip
    whole = [sys.executable, "-m", "depthwise", *map(str, command)]
    return subprocess.run(whole, check=False).returncode == 0


def seconds(result: NetworkResult) -> dict[tuple[str, str], float]:
    """Return {(runtime, precision): seconds} of those that were measured."""
    runtimes = result.runtimes
    return {(r.name, r.precision): r.seconds for r in runtimes if r.seconds and not r.cc}


def show(results: Path) -> str:
    """Return a Markdown table: a row a network, and the geometric means of each half."""
    lines = [
        "| ms | float32 | bfloat16 | int8 | OpenVINO float32 | its default | bfloat16 | int8 | "
        "fastest against int8 |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    means = []
    for threads in (1, 2):
        for half, title in ((MOBILE, "mobile networks"), (LARGE, "larger ones")):
            gains = []
            for network in half:
                path = results / f"{network}-{threads}.json"
                if not path.is_file():
                    continue
                (result,) = BenchRecord.model_validate_json(path.read_text()).networks
                found = seconds(result)
                peers = [taken for (name, _), taken in found.items() if name == PEER]
                gains.append(min(peers) / found[OURS, "int8"])
                cells = [f"{1e3 * found[c]:.3g}" if c in found else "" for c in COLUMNS]
                name = f"{network}, 2 threads" if threads == 2 else network
                lines.append(f"| {name} | {' | '.join(cells)} | {gains[-1]:.2f}x |")
            if gains:
                means.append(f"{title}, {counted(threads, 'thread')}: {geometric_mean(gains):.2f}x")
    if not means:
        raise SystemExit(f"{results} holds no NETWORK-THREADS.json: `measure` writes them")
    return "\n".join([*lines, "", "geometric means:", *means])


def main() -> int:
    """Do what the command line says; return 1 where a network could not be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    preparing, measuring, showing = (verbs.add_parser(v) for v in ("prepare", "measure", "show"))
    for verb in (preparing, measuring):
        verb.add_argument("folder", type=Path)
        verb.add_argument("--only", nargs="+", default=[*MOBILE, *LARGE])
    for verb in (measuring, showing):
        verb.add_argument("results", type=Path)
    measuring.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    measuring.add_argument("--target", default="native")
    measuring.add_argument("--precisions", default="float32,bfloat16,int8")
    given = parser.parse_args()
    if given.verb == "prepare":
        for network in given.only:
            prepare(network, given.folder)
        return 0
    if given.verb == "measure":
        given.results.mkdir(parents=True, exist_ok=True)
        runs = [(network, threads) for network in given.only for threads in given.threads]
        measured = [measure(network, threads, given) for network, threads in runs]
        print(show(given.results))
        return 0 if all(measured) else 1
    print(show(given.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
