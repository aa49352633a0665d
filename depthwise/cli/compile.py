"""`depthwise compile`: a network as a C library that depends on nothing."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from depthwise.cli.screen import screen
from depthwise.cli.source import (
    NETWORK_HELP,
    SET_HELP,
    SHAPE_HELP,
    parse_settings,
    parse_shapes,
    resolve,
)


def compile(
    network: Annotated[str, typer.Argument(help=NETWORK_HELP)],
    shape: Annotated[list[str] | None, typer.Option(help=SHAPE_HELP)] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help=SET_HELP)] = None,
    weights: Annotated[
        str | None, typer.Option(help="imagenet (bundled), or a checkpoint; else random.")
    ] = None,
    target: Annotated[
        str, typer.Option(help="native, x86-64-v2, -v3, -v4, aarch64 or wasm32.")
    ] = "native",
    cc: Annotated[
        str | None, typer.Option(help="A C compiler in place of the one that is installed with us.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads that the library runs on.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="The directory to save to; NETWORK-TARGET where left out.")
    ] = None,
    show: Annotated[
        Literal["graph", "plan", "c"] | None,
        typer.Option(help="Print the rewritten graph, the plan or the C, and compile nothing."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Compile a network to C and a shared library, and verify it against PyTorch."""
    from depthwise.compiler import pipeline  # noqa: PLC0415
    from depthwise.weights import build  # noqa: PLC0415

    options = parse_settings(settings or [])
    net, usual = resolve(network, options)
    if weights:
        net = build(network, weights=weights, **options).eval()
    shapes = parse_shapes(shape) or (usual,)
    if show:
        print(pipeline.show_stage(net, shapes, target, show))
        return
    library = pipeline.compile(net, *shapes, threads=threads, target=target, cc=cc)
    directory = out or Path(f"{network.replace(':', '-').replace('/', '-')}-{target}")
    library.save(directory)
    if as_json:
        print(json.dumps(library.manifest.model_dump(mode="json"), indent=2))
        return
    memory, verification = library.manifest.memory, library.manifest.verification
    said = (
        f"equal to PyTorch within {verification.error:.1e} of the largest output"
        if verification else "not verified: this machine cannot run it"
    )  # fmt: skip
    screen().print(
        f"{directory}: {library.manifest.build.target}, {memory.weights_bytes / 1e6:.2f} MB of "
        f"weights, {memory.arena_bytes / 1e6:.2f} MB of memory; {said}",
        highlight=False,
    )
