"""`depthwise export`: a network as an ONNX file, or as a graph that opens without PyTorch."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from depthwise.cli.arguments import parse_settings, parse_shapes
from depthwise.cli.files import check_place, writing
from depthwise.cli.options import AsJson, NetworkName, Settings, Shapes, Until, Weights
from depthwise.cli.screen import say_taken, screen, waiting
from depthwise.escaping import in_file_name, in_line

FORMATS = {".onnx": "ONNX", ".safetensors": "a saved graph"}


def export(
    network: NetworkName,
    shape: Shapes = None,
    settings: Settings = None,
    weights: Weights = None,
    until: Until = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The .onnx to write, or a .safetensors that holds our graph; NETWORK.onnx where "
            "left out."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a network as ONNX, or as a graph that is opened without PyTorch."""
    path = out or _default_path(network)
    if path.suffix not in FORMATS:
        raise ValueError(f"--out {path}: expected a file that ends in {' or '.join(FORMATS)}")
    check_place("--out", path)
    with waiting(f"exporting {network}"):
        from depthwise.graph import save_graph  # noqa: PLC0415
        from depthwise.graph.exporters.onnx import write_onnx  # noqa: PLC0415
        from depthwise.sources.exporting import graph_to_write  # noqa: PLC0415
        from depthwise.sources.opening import open  # noqa: PLC0415

        (shapes, named), asked = parse_shapes(shape), parse_settings(settings)
        source = open(network, *shapes, kwargs=named, settings=asked, weights=weights, until=until)
        say_taken(source)
        graph = graph_to_write(source)
        with writing("--out", path):
            (write_onnx if path.suffix == ".onnx" else save_graph)(graph, path)
    if as_json:
        print(json.dumps({"file": str(path), "format": path.suffix[1:], "nodes": len(graph.nodes)}))
        return
    from depthwise.analysis.units import in_units  # noqa: PLC0415

    size = in_units(path.stat().st_size, "B")
    text = f"{path}: {FORMATS[path.suffix]}, {size}"
    screen().print(Text(in_line(text)), soft_wrap=True)


def _default_path(network: str) -> Path:
    """Return where a network goes without --out: here, under its name or its file's."""
    from depthwise.sources.spec import parse_spec  # noqa: PLC0415

    is_file = parse_spec(network).front_end == "file"
    return Path(f"{Path(network).stem if is_file else in_file_name(network)}.onnx")
