"""The options of verbs that slim a network, in one wording, and what they ask for."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from depthwise.compiler.options import CompileOptions
    from depthwise.shipping.request import SlimmingPlan
    from depthwise.training.data.dataset import Dataset

Recover = Annotated[
    str | None,
    typer.Option(help="Train it for so long after slimming, as in 10min; that needs labels."),
]
Mimic = Annotated[
    str,
    typer.Option(
        help="Let the slimmed network learn from the original without labels, as in 2min."
    ),
]
Mirror = Annotated[
    bool,
    typer.Option(
        "--mirror/--no-mirror",
        help="Whether images are mirrored when it learns: not where left and right differ.",
    ),
]
BUDGET_HELP = (
    'What it may cost: "2ms", "150M" (MACs), "1.5M parameters", "3MB" (of weights), '
    '"200kB arena", or a share of what it costs now: "25%" (of MACs), "25% ms".'
)


def slimming_plan(
    budget: str | None, data: "Dataset | str | None", build: "CompileOptions",
    *, mimic: str, recover: str | None, mirror: bool,
) -> "SlimmingPlan | None":  # fmt: skip
    """Return what a network is slimmed to on the way to its library; None without a budget.

    Raises ValueError for a budget that is none, and for options that need one.
    """
    from depthwise.shipping.request import SlimmingPlan  # noqa: PLC0415
    from depthwise.slimming.budget import Budget  # noqa: PLC0415
    from depthwise.slimming.request import SlimmingOptions  # noqa: PLC0415

    timed = replace(build, threads=1, tune=False, check_plan=False)  # as budgets count time
    options = SlimmingOptions(build=timed, mimic=mimic, recover=recover, mirror=mirror)
    if budget is not None:
        return SlimmingPlan(Budget.read(budget), data, options)
    for name, given in (("--recover", options.recover), ("--mimic", options.mimic)):
        if given:
            raise ValueError(f"{name} is for a network that is slimmed: give a --budget, too")
    return None
