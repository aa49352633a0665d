"""`depthwise networks`: what can be built."""

import json
from typing import Annotated

import typer

from depthwise.cli.options import AsJson
from depthwise.cli.screen import screen, waiting


def networks(
    with_published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="List the accuracy that papers and public checkpoints state at each width and "
            "resolution, beside our counts.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the networks: what each is, its parameters, the images of its paper, its options."""
    if with_published:
        _print_published(as_json)
        return
    with waiting("counting each network's parameters"):
        rows = _describe_all()
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


def _print_published(as_json: bool) -> None:
    with waiting("counting each network at each resolution"):
        from depthwise.analysis.published import published_table, read_published  # noqa: PLC0415

        rows = read_published()
        table = [row.to_dict() for row in rows] if as_json else published_table(rows)
    if as_json:
        print(json.dumps(table, indent=2))
    else:
        screen().print(table)


def _describe_all() -> list[dict]:
    import torch  # noqa: PLC0415

    from depthwise.families import find_network, list_models  # noqa: PLC0415

    rows = []
    for entry in map(find_network, list_models()):
        with torch.device("meta"):
            parameters = sum(p.numel() for p in entry.construct().parameters())
        rows.append(
            {
                "name": entry.name,
                "summary": entry.summary,
                "parameters": parameters,
                "resolution": entry.resolution,
                "options": list(entry.options),
            }
        )
    return rows


def _print_table(rows: list[dict]) -> None:
    from depthwise.analysis.fitted import Column, FittedTable  # noqa: PLC0415
    from depthwise.analysis.units import in_units  # noqa: PLC0415

    columns = (
        Column("network", kind="name", least=20),
        Column("parameters"),
        Column("pixels", 1),
        Column("what it is, and its options (--set)", 2, "text", least=30),
    )
    cells = [
        (
            row["name"], in_units(row["parameters"]), str(row["resolution"]),
            "\n".join([row["summary"], ", ".join(row["options"])]),
        )
        for row in rows
    ]  # fmt: skip
    screen().print(FittedTable(columns, cells))
