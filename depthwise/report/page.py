"""report.html: one page that needs no other file, from what the stages found."""

import base64
import re
import shlex
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from depthwise.escaping import in_text, string_literal
from depthwise.report.accuracy_record import AccuracyRecord
from depthwise.report.changed_record import SlimmingStageRecord, TrainingStageRecord
from depthwise.report.charts import field_chart, roofline_chart
from depthwise.report.colours import COLOURS, DARK, colour_name
from depthwise.report.figures import FILTERS
from depthwise.report.network_picture import cut_into_cards
from depthwise.report.record import (
    Baseline,
    Comparison,
    Compilation,
    CostSummary,
    LayerProfile,
    LayerTimeRecord,
    Predictions,
    Report,
)
from depthwise.runtime.artifact import render_template
from depthwise.runtime.manifest import LayerError

SHOWN = 0.01  # share of the time: layers below it stand in report.json alone
WORST = 8  # layers of the verification


def render_page(report: Report) -> str:
    """Return the page of a report with all stages as HTML, with all charts and pictures in it."""
    folder = files("depthwise") / "report" / "templates"
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=True,
        finalize=_spelled,
    )  # fmt: skip
    environment.filters |= {
        **FILTERS, "colour": colour_name, "svg_uri": _svg_uri, "literal": string_literal,
        "word": shlex.quote,
    }  # fmt: skip
    template = environment.from_string((folder / "report.html.jinja").read_text("utf-8"))
    costs, profile = report.find(CostSummary), report.find(LayerProfile)
    compilation = report.find(Compilation)
    assert costs
    assert profile
    assert compilation
    side, rows = compilation.manifest.network.inputs[0].shape[-1], _rows(profile)
    slimming = report.find(SlimmingStageRecord)
    changed = slimming.found.layers if slimming else ()
    return template.render(
        report=report,
        request=report.request,
        costs=costs,
        compilation=compilation,
        predictions=report.find(Predictions),
        accuracy=report.find(AccuracyRecord),
        training=report.find(TrainingStageRecord),
        slimming=slimming,
        slowest=max((layer.before.milliseconds for layer in changed), default=1.0),
        comparison=report.find(Comparison),
        profile=profile,
        baseline=report.find(Baseline),
        style=Markup((folder / "report.css").read_text("utf-8")),
        colours=COLOURS,
        dark=DARK,
        roofline=Markup(roofline_chart(profile)),
        fields=Markup(field_chart(costs, side)),
        rows=rows,
        longest=max((row.microseconds for row in rows), default=1.0),
        worst=_worst(compilation),
        example=_example(compilation),
        cards=cut_into_cards(costs.picture),
    )


def _spelled(value: object) -> object:
    """Return what a page shows of a value: jinja escapes it, and this takes what is not seen."""
    return in_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _example(compilation: Compilation) -> str:
    """Return how a C program calls the library, and how it is compiled."""
    text = render_template("example.c", compilation.manifest)
    call = re.search(r"int status = (net_run.*?);", text, re.DOTALL)
    command = re.search(r"^ +(cc .*?) net\.c", text, re.MULTILINE)
    assert call
    assert command
    lines = re.sub(r"\n +", "\n    ", call[1])
    return f"""\
#include "net.h"

/* weights: the bytes of net.weights; arena: net_arena_bytes() bytes; both start at a
   multiple of NET_ALIGNMENT. example.c is a whole program. */
int status = {lines};

$ {command[1]} net.c yours.c -lm"""


def _rows(profile: LayerProfile) -> list[LayerTimeRecord]:
    """Return the layers whose time is worth a row."""
    return [row for row in profile.layers if row.share >= SHOWN]


def _worst(compilation: Compilation) -> list[LayerError]:
    check = compilation.manifest.verification
    layers = check.layers if check else ()
    return sorted(layers, key=lambda layer: -layer.error)[:WORST]


def _svg_uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
