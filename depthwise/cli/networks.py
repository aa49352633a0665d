"""`depthwise networks`: what can be built."""

import json

from depthwise.cli.options import AsJson
from depthwise.cli.screen import screen, waiting


def networks(as_json: AsJson = False) -> None:
    """List the networks: what each is, its parameters, the images of its paper, its options."""
    with waiting("counting each network's parameters"):
        rows = _describe_all()
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


def _describe_all() -> list[dict]:
    import torch  # noqa: PLC0415

    from depthwise.families import find_network, networks  # noqa: PLC0415

    rows = []
    for entry in map(find_network, networks()):
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
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None)
    table.add_column("network", no_wrap=True)
    table.add_column("parameters", no_wrap=True, justify="right")
    table.add_column("pixels", no_wrap=True, justify="right")
    table.add_column("what it is, and its options (--set)")
    for row in rows:
        millions, options = f"{row['parameters'] / 1e6:.2f} M", ", ".join(row["options"])
        about = Text.assemble(row["summary"], "\n", (options, "dim"))
        table.add_row(row["name"], millions, str(row["resolution"]), about)
    screen().print(table)
