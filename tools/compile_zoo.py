"""Compile networks of timm and torchvision that we did not write, and show what comes of it.

    python tools/compile_zoo.py                       all of them, a quarter of an hour on two cores
    python tools/compile_zoo.py --only dla34 fcn_resnet50
    python tools/compile_zoo.py --out results.json   the same rows, to compute with
    python tools/compile_zoo.py --markdown            the table of docs/compatibility.md

Each network is compiled for a small image and held against PyTorch, as `depthwise.compile` does.
"""

import argparse
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import timm
import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import nn

import depthwise as dw
from depthwise.errors import Mismatch
from depthwise.graph import export, trace

SIDE = 96  # pixels, where a network takes any

TIMM = """
resnet18 resnet18d resnetaa50 resnetblur50 resnext50_32x4d res2net50_26w_4s seresnext26d_32x4d
resnest14d skresnet18 ecaresnet26t gcresnet33ts tresnet_m resnetv2_50 resnetv2_50x1_bit nf_resnet50
eca_nfnet_l0 dm_nfnet_f0 nf_regnet_b0 regnetx_002 regnety_004 regnetz_b16 gernet_s repvgg_a0
densenet121 dpn68 dla34 hrnet_w18_small selecsls42b vovnet39a ese_vovnet19b_dw cspresnet50
cspdarknet53 darknet53 hgnet_tiny hgnetv2_b0 xception41 xception41p legacy_xception inception_v4
inception_resnet_v2 mobilenetv2_100 mobilenetv3_rw tf_mobilenetv3_large_minimal_100
mobilenetv4_conv_small mobilenet_edgetpu_v2_xs mobileone_s0 mnasnet_100 semnasnet_100 fbnetc_100
hardcorenas_a tinynet_a lcnet_050 mixnet_s rexnet_100 efficientnet_b0 efficientnet_es
tf_efficientnet_lite0 tf_efficientnet_b0 tf_efficientnetv2_b0 ghostnet_100 ghostnetv2_100
ghostnetv3_050 repghostnet_050 repvit_m0_9 starnet_s1 fasternet_t0 convnext_atto convnextv2_atto
inception_next_atto convmixer_768_32 poolformer_s12 poolformerv2_s12 efficientvit_b0 rdnet_tiny
vit_tiny_patch16_224 mobilenetv4_hybrid_medium mobilevit_xxs edgenext_xx_small levit_conv_128s
""".split()  # noqa: SIM905  (read as words)
TORCHVISION = """
alexnet vgg11_bn squeezenet1_0 shufflenet_v2_x1_0 mnasnet0_5 mobilenet_v3_small efficientnet_v2_s
regnet_x_400mf wide_resnet50_2 googlenet inception_v3 convnext_tiny densenet169 swin_t
""".split()  # noqa: SIM905
SEGMENTATION = ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")
GENERATOR = "dcgan_generator"

SIDES = {
    "inception_v4": 128, "inception_resnet_v2": 128, "vit_tiny_patch16_224": 224,
    "levit_conv_128s": 224, "inception_v3": 299,
}  # fmt: skip


class Generator(nn.Sequential):
    """Radford et al., arXiv:1511.06434, figure 1, smaller: (N, 64, 1, 1) to (N, 3, 32, 32)."""

    def __init__(self):
        widths = (64, 128, 64, 32)
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(widths)):
            stride, padding = (2, 1) if i else (1, 0)
            layers.append(nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False))
            layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1), nn.Tanh())


@dataclass(frozen=True)
class Row:
    """What came of one network.

    Errors are of the largest element: `error` of the outputs, `own_error` of PyTorch's float32 to
    its float64 where that is large, `layer_error` of the value inside that is furthest off.
    """

    network: str
    input: tuple[int, ...]
    result: str
    operators: int | None = None
    seconds: float | None = None
    arena_bytes: int | None = None
    error: float | None = None
    own_error: float | None = None
    layer: str | None = None
    layer_error: float | None = None


def names() -> Iterator[str]:
    """Name all networks, those of torchvision with a `tv.` before them."""
    yield from TIMM
    yield from (f"tv.{name}" for name in (*TORCHVISION, *SEGMENTATION))
    yield GENERATOR


def build(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a network with random weights, fit for evaluation, and the shape of its input."""
    torch.manual_seed(0)
    short = name.removeprefix("tv.")
    side = SIDES.get(short, SIDE)
    shape = (1, 64, 1, 1) if name == GENERATOR else (1, 3, side, side)
    if name == GENERATOR:
        net: nn.Module = Generator()
    elif name in TIMM:
        net = timm.create_model(name)
    elif short in SEGMENTATION:
        build_segmentation = torchvision.models.get_model_builder(short)
        net = build_segmentation(weights=None, weights_backbone=None)
    else:
        net = torchvision.models.get_model(short, weights=None)
    settle(net, shape)
    return net.eval(), shape


def settle(net: nn.Module, *shapes: Sequence[int]) -> None:
    """Draw the parameters that were filled with one number, and take statistics from a batch.

    A gain of zero or a layer scale of 1e-6 would hide what its branch computes.
    """
    for parameter in net.parameters():
        if parameter.numel() > 1 and (parameter == parameter.flatten()[0]).all():
            filled_with_ones = bool(parameter.flatten()[0] == 1)
            low, high = (0.4, 0.8) if filled_with_ones else (-0.3, 0.3)
            parameter.data.uniform_(low, high)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over the batches
    if norms:
        net.train()
        with torch.no_grad():
            net(*(torch.randn(8, *shape[1:]) for shape in shapes))


def attempt(name: str) -> Row:
    """Compile one network; what goes wrong becomes its result."""
    net, shape = build(name)
    start = time.monotonic()
    try:
        program = export(net, [shape])
        operators = len(trace(program).nodes)
        manifest = dw.compile(program).manifest
    except dw.Unsupported as error:
        return Row(name, shape, f"refused: {error}")
    except Mismatch as error:
        return Row(name, shape, f"WRONG: {error}")
    except Exception as error:  # what is wrong with one is no reason not to see the others
        return Row(name, shape, f"FAILED: {type(error).__name__}: {error}")
    found = manifest.verification
    assert found is not None
    layer = max(found.layers, key=lambda layer: layer.error)
    return Row(
        name, shape, "equal", operators, round(time.monotonic() - start, 1),
        manifest.memory.arena_bytes, found.error, found.own_error,
        f"{layer.value} of {layer.path}", layer.error,
    )  # fmt: skip


HEADINGS = ("network", "input", "result", "operators", "seconds", "arena, KiB")


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as it is shown."""
    size = "x".join(map(str, row.input[1:]))
    if row.operators is None or row.arena_bytes is None:
        return row.network, size, row.result.split(": build that")[0], "", "", ""
    own = f" (PyTorch's float32: {row.own_error:.1g})" if row.own_error is not None else ""
    return (
        row.network, size, f"equal within {row.error:.1g}{own}", str(row.operators),
        f"{row.seconds:.0f}", f"{row.arena_bytes / 1024:,.0f}",
    )  # fmt: skip


def markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *map(cells, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Compile, say how each went, and show the table."""
    parser = argparse.ArgumentParser(description="Compile networks of timm and torchvision.")
    parser.add_argument("--only", nargs="+", choices=list(names()), metavar="NAME", default=None)
    parser.add_argument("--out", type=Path, help="file to write the rows to")
    parser.add_argument("--markdown", action="store_true", help="show the table in Markdown")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # advice of the networks' own libraries
    torch.set_num_threads(1)
    progress = Console(stderr=True)
    rows: list[Row] = []
    for name in arguments.only or names():
        rows.append(attempt(name))
        progress.print(*cells(rows[-1]), highlight=False, soft_wrap=True)
        if arguments.out:
            arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if arguments.markdown:
        print(markdown(rows))
        return
    table = Table(*HEADINGS)
    for row in rows:
        table.add_row(*cells(row))
    Console().print(table)


if __name__ == "__main__":
    main()
