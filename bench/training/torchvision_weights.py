"""Write the bundled ImageNet weights of MobileNetV2 under torchvision's names: where all begin.

    python bench/training/torchvision_weights.py mobilenet_v2.pth

The trainers that `clothing.py` is compared with take them from this file, so that all start from
the same numbers (torchvision's IMAGENET1K_V2, rounded to float16 to be bundled).
"""

import sys

import torch
import torchvision

import depthwise as dw
from depthwise.weights.layouts.mobilenet import V2_TORCHVISION


def main(path: str) -> None:
    """Write them, after a comparison of what both networks compute."""
    ours = dw.create_model("mobilenet_v2", weights="imagenet").eval()
    theirs = torchvision.models.mobilenet_v2().eval()
    named, values = V2_TORCHVISION.translate(theirs.state_dict()), ours.state_dict()
    theirs.load_state_dict(
        {key: values.get(named[key], value) for key, value in theirs.state_dict().items()}
    )
    image = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        error = (ours(image) - theirs(image)).abs().max() / ours(image).abs().max()
    if error > 1e-5:
        sys.exit(f"the networks differ by {error:.1e} of the largest score")
    torch.save(theirs.state_dict(), path)
    print(f"{path}: differs from ours by {error:.1e} of the largest score")


if __name__ == "__main__":
    main(*sys.argv[1:])
