"""The command `depthwise`: one file a verb. Nothing heavy is imported before a verb runs.

Exit codes: 0 done, 1 findings, 2 an input or an option that cannot be used.
"""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from depthwise import __version__
from depthwise.cli.bench import bench
from depthwise.cli.calibrate import calibrate
from depthwise.cli.compare import compare
from depthwise.cli.compile import compile
from depthwise.cli.cost import cost
from depthwise.cli.draw import draw
from depthwise.cli.lint import lint
from depthwise.cli.networks import networks
from depthwise.cli.predict import predict
from depthwise.cli.ship import ship
from depthwise.cli.verb import Verb

BAD_INPUT = 2

# Errors that are no ValueError, by name, for their modules import PyTorch: networks that cannot be
# lowered, C compilers that fail, libraries that compute something else than PyTorch or do not run.
EXPECTED = {"Unsupported", "BuildError", "Mismatch", "CannotRun"}

app = typer.Typer(
    name="depthwise",
    help="Small convolutional networks, from idea to device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (ship, networks, cost, compare, draw, lint, predict, compile, bench, calibrate):
    app.command(cls=Verb)(verb)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"depthwise {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


def _is_users(error: Exception) -> bool:
    """Tell whether an error is about what the user gave: the message says what to do about it."""
    return isinstance(error, ValueError) or type(error).__name__ in EXPECTED


def main(arguments: list[str] | None = None) -> None:
    """Run the command line (sys.argv without `arguments`); always ends in SystemExit."""
    try:
        app(arguments, prog_name="depthwise")
    except Exception as error:
        if not _is_users(error):
            raise
        Console(stderr=True).print(Text(f"depthwise: {error}", style="red"), soft_wrap=True)
        sys.exit(BAD_INPUT)
