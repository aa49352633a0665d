"""Eight bits after training and in training: one run, each way computed in integers.

    python bench/quantization/trained.py RUN --data bundled --epochs 2 --out DIRECTORY

The accuracies are of images that neither trained nor chose anything: the test split, where there
is one. What is calibrated sees some hundred training images, what is trained sees all of them.
"""

import argparse
import json
from pathlib import Path

import depthwise as dw
from depthwise.bench.environment import describe_machine
from depthwise.training import Recipe, train
from depthwise.training.data.opening import open_dataset
from depthwise.training.judging import evaluate

WAYS = {
    "ranges alone": dw.QuantizationOptions(observer="minmax", steps=()),
    "all steps": dw.QuantizationOptions(),
}


def main() -> None:
    """Print the table, and keep it as JSON."""
    given = parsed()
    data = open_dataset(given.data)
    split = "test" if data.test else "validation"
    start = f"run:{given.run}"
    results = {"float32": evaluate(start, data, split=split).result}
    for name, options in WAYS.items():
        folder = given.out / name.replace(" ", "-")
        dw.quantize(start, data=data, options=options, tell=print).save(folder)
        results[name] = evaluate(f"quantized:{folder}", data, split=split).result
        print(f"{name:12} {results[name]}", flush=True)
    recipe = Recipe(
        quantize="int8", epochs=given.epochs, seed=given.seed, mirror=given.mirror,
        teacher=str(given.run) if given.taught else None,
    )  # fmt: skip
    run = train(start, data, recipe, directory=given.out / "trained")
    results["trained"] = evaluate(run, data, split=split).result
    print(f"{given.run}, the {split} images of {data.name}; {describe_machine().processor}")
    for name, result in results.items():
        print(f"{name:12} {result}")
    rows = {name: result.model_dump(mode="json") for name, result in results.items()}
    text = json.dumps({"run": str(given.run), "split": split, "rows": rows}, indent=1)
    (given.out / "figures.json").write_text(text)


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mirror", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--taught", action="store_true", help="The run itself is the teacher.")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
