"""`depthwise evaluate`: how right a run or a compiled library is on labelled images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from depthwise.cli.files import writing
from depthwise.cli.options import AsJson
from depthwise.cli.screen import name_left_out, screen, waiting
from depthwise.escaping import in_file_name, in_line

if TYPE_CHECKING:
    from depthwise.training.judging import Judgement

PAIRS = 10  # of classes that are confused


def evaluate(
    what: Annotated[str, typer.Argument(help="The directory of a run, or of a compiled library.")],
    data: Annotated[
        str | None,
        typer.Argument(help="Images, as `depthwise train` takes them; without, those of the run."),
    ] = None,
    split: Annotated[
        Literal["validation", "test"], typer.Option(help="Which of the images.")
    ] = "validation",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="A run or a library to compare with: whether both name the same."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where pictures go; else those of a run go to its directory."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a run or a compiled library on labelled images: accuracy, by class, confusions."""
    with waiting(f"judging {what}"):
        from depthwise.training.judging import evaluate as judge  # noqa: PLC0415

        found = judge(what, data, split=split, against=against)
        folder = out or _folder_in_run(what, found)
        if folder:
            with writing("--out", folder):
                found.draw(folder)
    name_left_out(list(found.left_out), len(found.found.labels))
    if as_json:
        print(json.dumps(_record(found), indent=2))
    else:
        _print(found)


def _folder_in_run(what: str, found: "Judgement") -> Path | None:
    """Return where pictures of a run go: to its directory, or a folder in it for other images."""
    from depthwise.sources.run_folder import read_run  # noqa: PLC0415
    from depthwise.sources.spec import is_run, run_directory  # noqa: PLC0415

    directory = run_directory(what)
    if not is_run(directory):
        return None
    own = found.data == read_run(directory).data and found.split == "validation"
    return directory if own else directory / in_file_name(f"{Path(found.data).name}-{found.split}")


def _record(found: "Judgement") -> dict[str, Any]:
    result, agreement = found.result, found.agreement
    record = {
        "name": found.name, "data": found.data, "split": found.split,
        **result.model_dump(mode="json"), "images_per_second": found.images_per_second,
        "left_out": found.left_out,
        "confused": [
            {"true": true, "said": said, "images": images}
            for true, said, images in found.found.worst_pairs(PAIRS)
        ],
    }  # fmt: skip
    if agreement:
        record["agreement"] = {
            "against": found.against, "images": agreement.images, "equal": agreement.equal,
            "ties": agreement.ties, "different": agreement.different,
        }  # fmt: skip
    return record


def _print(found: "Judgement") -> None:
    from depthwise.analysis.fitted import Column, FittedTable  # noqa: PLC0415

    out, result = screen(), found.result
    head = f"{found.name} on the {found.split} images of {found.data}"
    out.print(Text(in_line(head), style="bold"))
    out.print(Text(f"accuracy {result}, cross entropy {result.loss:.3f}"))
    out.print(Text(f"{found.images_per_second:,.0f} images/s, decoding left out"))
    if found.agreement:
        style = "bold red" if found.agreement.different else ""
        out.print(Text(in_line(f"beside {found.against}: {found.agreement}"), style=style))
    rows = [
        (in_line(each.name), f"{each.images:,}", f"{each.right:,}", *_shares(each))
        for each in result.classes
    ]
    columns = (
        Column("class", kind="name"), Column("images"), Column("right"), Column("accuracy"),
        Column("95 %"),
    )  # fmt: skip
    out.print(FittedTable(columns, rows))
    pairs = found.found.worst_pairs(PAIRS)
    if pairs:
        heads = (Column("true", kind="name"), Column("said", kind="name"), Column("images"))
        out.print(FittedTable(heads, [(in_line(t), in_line(s), f"{n:,}") for t, s, n in pairs]))


def _shares(each: Any) -> tuple[str, str]:
    if not each.images:
        return "-", "-"
    low, high = each.interval
    return f"{each.right / each.images:.1%}", f"{100 * low:.1f} to {100 * high:.1f}"
