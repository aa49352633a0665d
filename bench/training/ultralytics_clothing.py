"""Ultralytics' classify on a folder of photographs, in so many minutes: what ours is held against.

In an environment of its own (`pip install ultralytics`):

    python bench/training/ultralytics_clothing.py FOLDER mobilenet_v2.pth --minutes 10

All settings are Ultralytics' own: `time=`, 224 pixels, batches of 16, its optimiser, augmentation
and schedule. The network is MobileNetV2 in its `TorchVision` module, with its own `Classify` head
on it: so all trainers begin with the same ImageNet weights, from the file that
torchvision_weights.py wrote. `--model yolo11n-cls.pt` trains its own network instead, where that
file is at hand; Ultralytics downloads it, and no package carries it.
"""

import argparse
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("YOLO_OFFLINE", "true")

import torch
import yaml
from ultralytics import YOLO
from ultralytics.nn.tasks import ClassificationModel

# The layers of torchvision's `features`, unwrapped: all but its classifier; no weights to download.
NETWORK = {
    "nc": 1000,
    "backbone": [[-1, 1, "TorchVision", [1280, "mobilenet_v2", "None", True, 1]]],
    "head": [[-1, 1, "Classify", ["nc"]]],
}


def start(weights: Path, folder: Path) -> Path:
    """Write MobileNetV2 with its weights as a checkpoint of Ultralytics; return where it is."""
    path = folder / "mobilenet_v2-cls.yaml"
    path.write_text(yaml.safe_dump(NETWORK))
    net = ClassificationModel(str(path), nc=NETWORK["nc"], verbose=False)
    body = {
        key.removeprefix("features."): value
        for key, value in torch.load(weights).items()
        if key.startswith("features.")
    }
    net.model[0].m.load_state_dict(body)
    net.task, net.args = "classify", {}
    torch.save({"model": net, "train_args": {"task": "classify"}}, folder / "start.pt")
    return folder / "start.pt"


def main() -> None:
    """Train, and print how right it is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--model", help="a .pt file of Ultralytics' own instead")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = YOLO(options.model or start(options.weights, folder))
        begun = time.perf_counter()
        model.train(
            data=str(options.folder.resolve()), time=options.minutes / 60, device="cpu",
            imgsz=224, plots=False, project=temporary, name="run", seed=options.seed, verbose=False,
        )  # fmt: skip
        seconds = time.perf_counter() - begun
        epochs = len((folder / "run" / "results.csv").read_text().splitlines()) - 1
        found = YOLO(folder / "run" / "weights" / "best.pt").val(
            data=str(options.folder.resolve()), plots=False, project=temporary, name="val"
        )
    print(
        json.dumps({
            "trainer": "Ultralytics", "epochs": epochs, "seconds": round(seconds),
            "seed": options.seed, "accuracy": found.top1,
        })
    )  # fmt: skip


if __name__ == "__main__":
    main()
