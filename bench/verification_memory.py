"""The peak memory of compiling a network: `python bench/verification_memory.py vgg16 1024`.

It prints bytes in GB (10^9), and how much of them the arena is. Long: VGG-16 at 1024 x 1024 runs
four times in PyTorch and as often in the library.
"""

import resource
import sys
import time

import torch

import depthwise as dw


def main(name: str, size: int) -> None:
    """Compile a network for one image and print what that took."""
    torch.manual_seed(0)
    start = time.perf_counter()
    library = dw.compile(dw.create_model(name), (1, 3, size, size))
    seconds = time.perf_counter() - start
    scale = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9
    memory, check = library.manifest.memory, library.manifest.verification
    print(f"{name} at {size} x {size}: {seconds:.0f} s, peak memory {peak:.2f} GB")
    print(f"arena {memory.arena_bytes / 1e9:.2f} GB, weights {memory.weights_bytes / 1e9:.2f} GB")
    if check:
        print(
            f"verified: {check.error:.1e} of the largest output, {len(check.layers)} values inside"
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
