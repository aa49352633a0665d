"""The verbs of `depthwise`, and what all have in common."""

from typing import Annotated

import typer

from depthwise import __version__
from depthwise.cli.bench import bench
from depthwise.cli.calibrate import calibrate
from depthwise.cli.compare import compare
from depthwise.cli.compile import compile
from depthwise.cli.cost import cost
from depthwise.cli.draw import draw
from depthwise.cli.evaluate import evaluate
from depthwise.cli.export import export
from depthwise.cli.lint import lint
from depthwise.cli.look import look
from depthwise.cli.networks import networks
from depthwise.cli.predict import predict
from depthwise.cli.quantize import quantize
from depthwise.cli.returning import returning
from depthwise.cli.ship import ship
from depthwise.cli.slim import slim
from depthwise.cli.tradeoff import tradeoff
from depthwise.cli.train import train
from depthwise.cli.verb import Verb

EXIT_CODES = (
    "Exit codes: 0 done, 1 findings (lint), 2 an input or an option that cannot be used, "
    "70 a fault of depthwise itself, 130 interrupted."
)

app = typer.Typer(
    name="depthwise",
    help="Small convolutional networks, from idea to device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
VERBS = (
    ship, train, slim, quantize, evaluate, tradeoff, networks, cost, compare, draw, look, lint,
    predict, compile, export, bench, calibrate,
)  # fmt: skip
for verb in VERBS:
    app.command(cls=Verb, epilog=EXIT_CODES)(returning(verb))


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
