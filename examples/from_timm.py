"""Counts, checks and compiles a network of timm's: `pip install timm` first.

Shows that any PyTorch CNN takes the same road, and what can be known of it before it is trained.
"""

import timm

import depthwise as dw

SHAPE = (1, 3, 96, 96)

net = timm.create_model("mobilenetv3_small_100", pretrained=False)  # True downloads its weights
cost = dw.cost(net, SHAPE)
print(f"{cost.macs:,} multiply-adds, {cost.params:,} parameters")
for finding in dw.lint(net, SHAPE):
    print(f"{finding.layer}: {finding.what}")

library = dw.compile(net, SHAPE)
memory, verification = library.manifest.memory, library.manifest.verification
print(f"{memory.arena_bytes:,} bytes to run in, {memory.weights_bytes:,} bytes of weights")
print(f"differs from PyTorch by {verification.error:.0e} of the largest output")
library.save("mobilenetv3")  # net.c, net.h, net.weights, a shared library, examples
