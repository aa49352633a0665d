"""Why other counters print other numbers for the same network: the way from ours to theirs."""

from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Group, RenderableType
from rich.text import Text

from depthwise.analysis.count import CONVENTION, count_all_macs
from depthwise.analysis.counters import COUNTERS, Counter
from depthwise.analysis.fitted import Column, FittedTable
from depthwise.graph import Graph, Shape, ops


@dataclass(frozen=True)
class Term:
    """One step from our number to another: negative where something is left out."""

    amount: int
    reason: str


@dataclass(frozen=True)
class Figure:
    """What a counter prints: `value` is `start`, in our count, and all of the terms.

    `tool` has the version that this was checked against, `word` is what it calls the number.
    """

    tool: str
    word: str
    value: int
    start: Literal["MACs", "2 x MACs", "parameters"]
    terms: tuple[Term, ...] = ()
    caveat: str = ""


@dataclass(frozen=True)
class Explanation:
    """Our multiply-adds and parameters, and how other counters come to their own.

    `not_counted` are operators that we do not know: none of the figures has them.
    `arithmetic` are values that sums and products of tensors compute, which no counter counts.
    """

    input_shapes: tuple[Shape, ...]
    macs: int
    params: int
    figures: tuple[Figure, ...]
    arithmetic: int
    not_counted: tuple[str, ...]

    def to_dict(self) -> dict:
        """Return everything, with the convention, in types that JSON has."""
        return {"convention": CONVENTION, **asdict(self)}


def explain(graph: Graph) -> Explanation:
    """Return what other counters print for a network, and the terms by which they differ."""
    macs = count_all_macs(graph)
    opaque = {node.op.operator for node in graph if isinstance(node.op, ops.Opaque)}
    return Explanation(
        input_shapes=tuple(type_.shape for type_ in graph.inputs.values()),
        macs=macs,
        params=_params(graph),
        figures=(*(_figure(counter, graph, macs) for counter in COUNTERS), *_sizes(graph)),
        arithmetic=sum(node.type.size for node in graph if isinstance(node.op, ops.Binary)),
        not_counted=tuple(sorted(opaque)),
    )


def _figure(counter: Counter, graph: Graph, macs: int) -> Figure:
    amounts: dict[str, int] = {}
    for node in graph:
        for reason, amount in counter.terms(graph, node):
            amounts[reason] = amounts.get(reason, 0) + amount
    return Figure(
        tool=counter.tool,
        word=counter.word,
        value=counter.per_mac * macs + sum(amounts.values()),
        start="MACs" if counter.per_mac == 1 else "2 x MACs",
        terms=tuple(Term(amount, reason) for reason, amount in amounts.items() if amount),
        caveat=counter.caveat,
    )


def _params(graph: Graph) -> int:
    return sum(constant.type.size for constant in graph.constants.values() if constant.trainable)


def _sizes(graph: Graph) -> tuple[Figure, ...]:
    """Return the number of parameters as others state it."""
    params = _params(graph)
    batch_norms = [node.inputs for node in graph if isinstance(node.op, ops.BatchNorm)]
    scales = {name for _, weight, bias, *_ in batch_norms for name in (weight, bias)}
    statistics = {name for inputs in batch_norms for name in inputs[3:]}
    trained = sum(graph.type(n).size for n in scales if graph.constants[n].trainable)
    running = sum(graph.type(name).size for name in statistics)
    return (
        Figure("PyTorch, torchvision, timm", "parameters", params, "parameters"),
        Figure(
            "tf-slim's table of MobileNetV2", "parameters", params - trained, "parameters",
            (Term(-trained, "BatchNorm's scales and shifts, left out"),) if trained else (),
        ),
        Figure(
            "Keras", "total params", params + running, "parameters",
            (Term(running, "BatchNorm's running means and variances"),) if running else (),
        ),
    )  # fmt: skip


COLUMNS = (
    Column("counter", kind="name", least=20),
    Column("calls it", 2, "word"),
    Column("prints"),
    Column("which is", 1, "text", least=24),
)


def explanation_table(explanation: Explanation) -> RenderableType:
    """Return a row a counter: what it prints and how it comes there from our number."""
    rows = [("depthwise, most papers, torchvision", "MACs", f"{explanation.macs:,}", "")]
    notes: list[Text] = []
    for figure in explanation.figures:
        mark = ""
        if figure.caveat:
            mark = f" [{len(notes) + 1}]"
            notes.append(Text(f"[{len(notes) + 1}] {figure.caveat}"))
        terms = (figure.start, *(f"{term.amount:+,} {term.reason}" for term in figure.terms))
        rows.append((figure.tool + mark, figure.word, f"{figure.value:,}", "\n".join(terms)))
    if explanation.arithmetic:
        count = f"{explanation.arithmetic:,}"
        notes.append(Text(f"none counts tensors added or multiplied with + and *: {count} values"))
    if explanation.not_counted:
        names = ", ".join(explanation.not_counted)
        notes.append(Text(f"NOT COUNTED, so every line may be too low: {names}"))
    shapes = ", ".join("x".join(map(str, shape)) for shape in explanation.input_shapes)
    title = Text(f"what other counters print for this network on {shapes}", style="bold")
    return Group(title, "", FittedTable(COLUMNS, rows), "", *notes)
