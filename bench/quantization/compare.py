"""Eight bits by depthwise, NNCF and ONNX Runtime: who says what the network in float32 says.

    python bench/quantization/compare.py mobilenet_v2 --weights imagenet --data FOLDER \
        --python VENV/bin/python --out DIRECTORY

All are calibrated on the same images and judged on the same others; ours is computed in integers
(`dw.simulate`). VENV has nncf, openvino, onnxruntime, onnx and sympy. The steps of ours come before
the table: what each gained.
"""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
import torch

import depthwise as dw
from depthwise.calibration.divergence import divergence
from depthwise.quantization.judging import decibels
from depthwise.quantization.preparing import prepare
from depthwise.quantization.running import Runner
from depthwise.quantization.steps import STEPS
from depthwise.training.calibration_data import gather

RIVALS = ("nncf", "onnxruntime")


def main() -> None:
    """Print the table, and keep it as JSON."""
    given = parsed()
    given.out.mkdir(parents=True, exist_ok=True)
    shapes = [tuple(map(int, given.shape.split(",")))] if given.shape else []
    source = dw.open(given.network, *shapes, weights=given.weights)
    data = gather(
        given.data, source.graph, source.pretrained, given.images + given.held, needs_classes=False
    )
    everything = torch.cat([data.held, data.images])
    held, images = everything[: given.held].contiguous(), everything[given.held :].contiguous()
    np.savez(given.out / "images.npz", images=images.numpy(), held=held.numpy())
    dw.export_onnx(source, given.out / "network.onnx")
    original = Runner(held).original(prepare(source.graph))
    options = dw.QuantizationOptions(steps=tuple(filter(None, given.steps.split(","))))
    ours = dw.quantize(source, data=images.numpy(), options=options, tell=print)
    scores = {"depthwise": dw.simulate(ours.graph, held.numpy())}
    if given.python:
        rivals = Path(__file__).with_name("rivals.py")
        subprocess.run([given.python, str(rivals), str(given.out)], check=True)
        scores |= {name: np.load(given.out / f"{name}.npy") for name in RIVALS}
    rows = {name: figures(torch.from_numpy(y).double(), original) for name, y in scores.items()}
    print(f"{given.network}: {len(images)} images to calibrate on, {len(held)} to judge on")
    for name, row in rows.items():
        print(f"{name:12} same class {row['agreement']:.2%}  {row['nats']:.4f} nats"
              f"  {row['decibels']:.1f} dB")  # fmt: skip
    text = json.dumps({"network": given.network, "images": len(images), "rows": rows}, indent=1)
    (given.out / "figures.json").write_text(text)


def figures(found: torch.Tensor, original: torch.Tensor) -> dict[str, float]:
    """Return how far scores are from those in float32."""
    return {
        "agreement": float((found.argmax(1) == original.argmax(1)).double().mean()),
        "nats": divergence(found, original, scores=True),
        "decibels": decibels(original, found),
    }


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network")
    parser.add_argument("--weights")
    parser.add_argument("--shape")
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", default=",".join(STEPS), help="Of ours, after the ranges.")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--held", type=int, default=256)
    parser.add_argument("--python", help="Python of an environment with nncf and onnxruntime.")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
