"""Compile networks that other people published, a process each, and show what comes of it.

    pip install timm pytorchcv kornia ...                  the packages named in wild_networks.toml
    git clone ...                                          the repositories, into FOLDER/owner/name
    python tools/compile_wild.py --repositories FOLDER
    python tools/compile_wild.py --repositories FOLDER --only EDSR yolox_nano
    python tools/compile_wild.py --repositories FOLDER --out results.json --markdown

A network has random weights. It is compiled for a small input, which holds it against PyTorch, and
run once more as its users do: what it returns must have the structure that PyTorch returns.
Networks whose package or repository is not there are listed, and count as nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tomllib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from compile_zoo import settle
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils import _pytree as pytree

import depthwise as dw
from depthwise.errors import Mismatch

LIST = Path(__file__).with_name("wild_networks.toml")
LARGEST_ERROR = 1e-3  # of the call as users do it, of the largest element; compile is stricter
LIMIT = 600  # seconds for one network

EQUAL, REFUSED, WRONG, CRASHED, ABSENT = "equal", "refused", "WRONG", "CRASHED", "not there"


@dataclass(frozen=True)
class Entry:
    """A published network: Python that gives `net`, and the shapes of its inputs."""

    task: str
    project: str
    name: str
    build: str
    shapes: list[list[int]]
    path: str = ""


@dataclass(frozen=True)
class Row:
    """What came of one network; `why` says more where it is not equal."""

    task: str
    project: str
    network: str
    result: str
    why: str = ""
    error: float | None = None
    seconds: float | None = None


def read_list() -> list[Entry]:
    """Return all published networks."""
    return [Entry(**fields) for fields in tomllib.loads(LIST.read_text())["network"]]


def build(entry: Entry, repositories: Path) -> nn.Module:
    """Run an entry's Python and return its network, ready for evaluation."""
    repository = repositories / entry.project
    if "/" in entry.project:
        if not repository.is_dir():
            raise ModuleNotFoundError(f"{repository} is not a folder")
        sys.path[:0] = [str(repository / entry.path), str(repository)]
    torch.manual_seed(0)
    names = {"REPOSITORY": str(repository)}
    exec(compile(entry.build, f"<{entry.name}>", "exec"), names)
    net: nn.Module = names["net"]  # type: ignore[assignment]
    net.eval()  # of some networks' own it returns nothing
    return net


def settled(net: nn.Module, shapes: Sequence[Sequence[int]]) -> nn.Module:
    """Return the network with weights that hide nothing, where it can be run in training mode."""
    try:
        settle(net, *shapes)
    except Exception:  # it trains by other means: its weights stay as they were drawn
        torch.manual_seed(0)
    net.eval()
    return net


def compare(net: nn.Module, library: dw.Library, shapes: Sequence[Sequence[int]]) -> str:
    """Return how a call of the library differs from the network's, nothing where it does not."""
    torch.manual_seed(1)
    inputs = [torch.randn(*shape) for shape in shapes]
    with torch.no_grad():
        wanted, structure = pytree.tree_flatten(net(*(x.clone() for x in inputs)))
    found, found_structure = pytree.tree_flatten(library(*inputs))
    if found_structure != structure:
        return f"structure {found_structure} where PyTorch has {structure}"
    for w, f in zip(wanted, found, strict=True):
        if not isinstance(w, torch.Tensor):
            if w != f:
                return f"{f!r} where PyTorch has {w!r}"
        elif w.shape != f.shape or w.dtype != f.dtype:
            return f"{f.dtype} {tuple(f.shape)} where PyTorch has {w.dtype} {tuple(w.shape)}"
        elif w.numel() and (w - f).abs().max() > LARGEST_ERROR * w.abs().max():
            return f"off by {(w - f).abs().max() / w.abs().max():.2g} of the largest element"
    return ""


def attempt(entry: Entry, repositories: Path) -> Row:
    """Compile one network; what goes wrong becomes its result."""
    about = (entry.task, entry.project, entry.name)
    try:
        net = settled(build(entry, repositories), entry.shapes)
        with torch.no_grad():
            net(*(torch.randn(*shape) for shape in entry.shapes))
    except Exception as error:  # PyTorch itself cannot build or run it
        return Row(*about, ABSENT, f"{type(error).__name__}: {error}")
    start = time.monotonic()
    try:
        library = dw.compile(net, *map(tuple, entry.shapes))
    except dw.Unsupported as error:
        return Row(*about, REFUSED, str(error))
    except Mismatch as error:
        return Row(*about, WRONG, str(error))
    except Exception as error:
        return Row(*about, CRASHED, f"{type(error).__name__}: {error}")
    found = library.manifest.verification
    assert found is not None
    difference = compare(net, library, entry.shapes)
    took = round(time.monotonic() - start, 1)
    return Row(*about, WRONG if difference else EQUAL, difference, found.error, took)


def attempt_alone(entry: Entry, repositories: Path) -> Row:
    """Compile one network in a process of its own, so that a crash is a row too."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "row.json"
        command = [sys.executable, __file__, "--repositories", str(repositories)]
        command += ["--child", entry.project, entry.name, str(answer)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=LIMIT, check=False)
        except subprocess.TimeoutExpired:
            why = f"no result within {LIMIT} s"
        else:
            if answer.exists():
                return Row(**json.loads(answer.read_text()))
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            why = f"exit {done.returncode}: {' '.join(last)}"
    return Row(entry.task, entry.project, entry.name, CRASHED, why)


HEADINGS = ("task", "project", "network", "result")


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as it is shown."""
    said = f"equal within {row.error:.1g}" if row.result == EQUAL else f"{row.result}: {row.why}"
    return row.task, row.project, row.network, said.split(": build that module", maxsplit=1)[0]


def markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *map(cells, rows)]
    return "\n".join("| " + " | ".join(line).replace("\n", " ") + " |" for line in lines)


def summary(rows: Sequence[Row]) -> str:
    """Return how many came out how, of those that are there."""
    counts = Counter(row.result for row in rows)
    there = [row for row in rows if row.result != ABSENT]
    projects, tasks = {row.project for row in there}, {row.task for row in there}
    share = counts[EQUAL] / max(len(there), 1)
    said = ", ".join(f"{counts[kind]} {kind}" for kind in (EQUAL, REFUSED, WRONG, CRASHED, ABSENT))
    return (
        f"{len(there)} networks of {len(projects)} projects in {len(tasks)} kinds of task: "
        f"{said}; {share:.1%} equal"
    )


def main() -> None:
    """Compile, say how each went, and show the table."""
    parser = argparse.ArgumentParser(description="Compile networks that other people published.")
    parser.add_argument("--repositories", type=Path, default=Path(), help="holds owner/name each")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of networks or projects")
    parser.add_argument("--out", type=Path, help="file to write the rows to")
    parser.add_argument("--markdown", action="store_true", help="show the table in Markdown")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # advice of the networks' own libraries
    torch.set_num_threads(1)
    entries = read_list()
    if arguments.child:
        project, name, answer = arguments.child
        entry = next(e for e in entries if (e.project, e.name) == (project, name))
        row = attempt(entry, arguments.repositories.resolve())
        Path(answer).write_text(json.dumps(asdict(row)))
        return
    wanted = set(arguments.only or ())
    chosen = [e for e in entries if not wanted or wanted & {e.name, e.project}]
    if not chosen:
        parser.error(f"no network or project is called {' or '.join(sorted(wanted))}")
    progress = Console(stderr=True)
    rows: list[Row] = []
    for entry in chosen:
        rows.append(attempt_alone(entry, arguments.repositories.resolve()))
        progress.print(*cells(rows[-1]), highlight=False, soft_wrap=True, markup=False)
        if arguments.out:
            arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if arguments.markdown:
        print(markdown(rows))
    else:
        table = Table(*HEADINGS)
        for row in rows:
            table.add_row(*cells(row))
        Console().print(table)
    print(summary(rows))


if __name__ == "__main__":
    main()
