"""What each precision loses after training: mean and spread over runs that differ in their seed.

    python bench/training/seeds.py bundled --network mobilenet_v3_small --time 3min --keep runs
    python bench/quantization/accuracy.py runs/seed-* --out DIRECTORY

Each is computed as a library computes it: bfloat16 and float16 compiled, eight bits in integers. It
is calibrated on training images; the test images, where there are any, are read once for each.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean, stdev

import depthwise as dw
from depthwise.bench.environment import describe_machine
from depthwise.training.data.opening import open_dataset
from depthwise.training.judging import evaluate

HALVES = ("bfloat16", "float16")


def judge(run: Path, given: argparse.Namespace) -> dict[str, float]:
    """Return the accuracy of a run in each precision, in percent."""
    record = dw.Run.open(run).record
    data = open_dataset(given.data or record.data)
    split = "test" if data.test else "validation"
    start, kept = f"run:{run}", given.out / f"{run.parent.name}-{run.name}"
    found = {"float32": evaluate(start, data, split=split).result.accuracy}
    for precision in HALVES:
        folder = kept / precision
        if not folder.is_dir():
            dw.compile(start, precision=precision).save(folder)
        found[precision] = evaluate(folder, data, split=split).result.accuracy
    options = dw.QuantizationOptions(images=given.images)
    quantized = dw.quantize(start, data=data, options=options, tell=print)
    quantized.save(kept / "int8")
    found["int8"] = evaluate(f"quantized:{kept / 'int8'}", data, split=split).result.accuracy
    return {name: 100 * accuracy for name, accuracy in found.items()}


def main() -> None:
    """Print a line for each run, then means of what is lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", help="the images, else those of the run")
    parser.add_argument("--images", type=int, default=512, help="to calibrate on")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = {}
    for run in given.runs:
        rows[str(run)] = judge(run, given)
        print(run, ", ".join(f"{name} {x:.2f} %" for name, x in rows[str(run)].items()), flush=True)
    for name in (*HALVES, "int8"):
        lost = [row["float32"] - row[name] for row in rows.values()]
        spread = f", deviation {stdev(lost):.2f}" if len(lost) > 1 else ""
        print(
            f"{name}: {fmean(lost):+.2f} points lost{spread}, {min(lost):+.2f} to {max(lost):+.2f}"
        )
    print(describe_machine().processor)
    (given.out / "accuracy.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
