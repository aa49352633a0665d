"""The arguments and options that several verbs have, in one wording."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from depthwise.compiler.options import AskedPrecision

NETWORK, WEIGHTS = "mobilenet_v2", "imagenet"  # where nothing else is asked for

NETWORK_HELP = (
    "A name of `depthwise networks`, timm:NAME, torchvision:NAME, package.module:factory, "
    "path/file.py:factory, conv:KIND, run:DIRECTORY (of `depthwise train`), slimmed:DIRECTORY "
    "(of `depthwise slim`), quantized:DIRECTORY (of `depthwise quantize`), or a file that ends in "
    ".pt2, .pt, .onnx or .safetensors."
)
NetworkName = Annotated[str, typer.Argument(help=NETWORK_HELP)]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        help="The input's shape, as in 1,3,224,224; repeat where there are several, by position or "
        "as NAME=1,3,224,224, with the element type if it is another: NAME=1,16:int64.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option of the network, name=value; repeat for more."),
]
Weights = Annotated[
    str | None,
    typer.Option(help="imagenet (bundled), or a checkpoint; else the network's own, or random."),
]
Until = Annotated[
    str | None,
    typer.Option(
        help="A module that the network is to end with, as in --until head; of a file, a value too."
    ),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option("--recipe", help="A .toml file of how to train; options go before what it says."),
]
TimeLimit = Annotated[
    str | None, typer.Option("--time", help="The time that a training may take, as in 15min.")
]
Epochs = Annotated[float | None, typer.Option(help="How often each image is seen, at most.")]
Seed = Annotated[int | None, typer.Option(help="Of all that is random.")]
TargetName = Annotated[
    str,
    typer.Option(
        help="native, x86-64-v2, x86-64-v3, x86-64-v4, x86-64-amx, x86-64-avx512-fp16, aarch64, "
        "aarch64-fp16 or wasm32; x86-64 for one library that holds v2, v3 and v4 and takes the "
        "widest that the machine runs; portable for C11 without vectors."
    ),
]
SystemName = Annotated[
    Literal["linux", "windows", "macos"] | None,
    typer.Option("--system", help="The operating system to compile for; else this machine's."),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads that share each run.")]
Optimize = Annotated[
    Literal["speed", "memory"], typer.Option(help="What for: speed, or the smallest arena.")
]
Tune = Annotated[
    bool,
    typer.Option(
        "--tune/--no-tune",
        help="Measure a few ways to compute each layer, if the target is native: tens of seconds.",
    ),
]
TuneFor = Annotated[
    str | None,
    typer.Option(
        help="The core whose caches and speeds the plan is made for, as in zen5 or cortex-a76; "
        "calibrated: this machine's as measured; generic: the target's. Else this machine's for "
        "native, generic for others."
    ),
]
PrecisionName = Annotated[
    AskedPrecision,
    typer.Option(
        "--precision",
        help="The type of weights and of values between layers; bfloat16 and float16 halve both, "
        "and are fast where the CPU has AMX or computes in float16; int8 quantises the network on "
        "--data; auto takes the fastest that keeps the class of enough images.",
    ),
]
StoredName = Annotated[
    Literal["float32", "float16"],
    typer.Option(
        "--store",
        help="The type that weights are stored in where a layer waits for them (linear layers, "
        "gates); they are computed with in float32.",
    ),
]
AgreementGoal = Annotated[
    float | None,
    typer.Option(
        "--agreement",
        help="The share of images whose class must stay what it is in float32: for auto 0.99 if "
        "left out; in int8 layers that rounding hurts are kept in float32 until it is met.",
    ),
]
CompilerName = Annotated[
    str | None,
    typer.Option("--cc", help="A C compiler in place of the one that is installed with us."),
]
CheckPlan = Annotated[
    bool,
    typer.Option(
        "--check-plan/--no-check-plan",
        help="Check each step in Python where this machine cannot run the library.",
    ),
]
Directory = Annotated[
    Path | None, typer.Option(help="The directory to save to; NETWORK-TARGET where left out.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
