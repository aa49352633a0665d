"""What a network costs, layer by layer and in total, before it has run once."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from depthwise.analysis.count import CONVENTION, count_macs, kind
from depthwise.analysis.memory import peak_activations
from depthwise.analysis.receptive_field import receptive_fields
from depthwise.escaping import in_cell
from depthwise.graph import NO_KWARGS, Graph, Node, Shape, TensorType, ops
from depthwise.sources.opening import describe

if TYPE_CHECKING:
    from depthwise.sources.opening import Network


@dataclass(frozen=True)
class Layer:
    """One operator: sizes in elements, bytes as read and written when it runs on its own.

    Attributes:
        macs: None where they cannot be counted.
        weight_bytes: Its parameters as stored; a weight that several layers read counts once.
        receptive_field: In input pixels, down and across; None after a pooling of the whole image.
        step: How far apart in the input neighbouring outputs look, in the same pixels.
        milliseconds: Predicted for one machine; None where none was named.
    """

    path: str
    name: str
    kind: str
    operator: str
    input_shape: Shape
    output_shape: Shape
    params: int
    macs: int | None
    weight_bytes: int
    bytes_read: int
    bytes_written: int
    receptive_field: tuple[int, int] | None
    step: tuple[float, float] | None
    milliseconds: float | None = None

    @property
    def intensity(self) -> float:
        """FLOPs (2 x MACs) for each byte read or written; few of them mean memory-bound."""
        moved = self.bytes_read + self.bytes_written
        return 2 * (self.macs or 0) / moved if moved else 0.0


@dataclass(frozen=True)
class PredictionError:
    """By how much whole networks were off when the machine was calibrated, relative to their times.

    Each of `networks` calibration networks was predicted from the others alone, then run. `mean`
    and `worst` are of the errors without their signs.
    """

    mean: float
    worst: float
    networks: int


@dataclass(frozen=True)
class Cost:
    """The cost of a network at fixed input shapes.

    Attributes:
        network: What the network calls itself.
        input_shapes: One for each input.
        layers: Each operator, with its own cost, in the order in which they run.
        params: How many parameters the network has.
        unused_params: How many of them are not read in evaluation.
        weight_bytes: The parameters as stored.
        peak_bytes: The most that activations take at once.
        peak_layer: The path of the layer where they do.
        milliseconds: Predicted for the compiled network on one machine; None where none was named.
        milliseconds_error: How close such predictions came on that machine; None without one.
    """

    network: str
    input_shapes: tuple[Shape, ...]
    layers: tuple[Layer, ...]
    params: int
    unused_params: int
    weight_bytes: int
    peak_bytes: int
    peak_layer: str
    milliseconds: float | None = None
    milliseconds_error: PredictionError | None = None

    @cached_property
    def macs(self) -> int:
        """Multiply-adds of convolutions, linear layers and matrix products that can be counted."""
        return sum(layer.macs or 0 for layer in self.layers)

    @property
    def flops(self) -> int:
        """2 x MACs."""
        return 2 * self.macs

    @property
    def bytes_read(self) -> int:
        """Bytes that the operators read, each run on its own, weights included."""
        return sum(layer.bytes_read for layer in self.layers)

    @property
    def bytes_written(self) -> int:
        """Bytes that the operators write, each run on its own."""
        return sum(layer.bytes_written for layer in self.layers)

    @property
    def intensity(self) -> float:
        """FLOPs for each byte read or written."""
        moved = self.bytes_read + self.bytes_written
        return self.flops / moved if moved else 0.0

    @property
    def receptive_field(self) -> tuple[int, int]:
        """The largest receptive field of a layer that still has a plane, in input pixels."""
        fields = [layer.receptive_field for layer in self.layers if layer.receptive_field]
        return max(fields, default=(1, 1))

    @property
    def not_counted(self) -> tuple[Layer, ...]:
        """The layers whose MACs are not known: the total leaves them out."""
        return tuple(layer for layer in self.layers if layer.macs is None)

    def by_kind(self) -> dict[str, tuple[int, int, int]]:
        """Return the number of layers, parameters and MACs of each kind, most MACs first."""
        sums: dict[str, tuple[int, int, int]] = {}
        for layer in self.layers:
            count, params, macs = sums.get(layer.kind, (0, 0, 0))
            sums[layer.kind] = count + 1, params + layer.params, macs + (layer.macs or 0)
        return dict(sorted(sums.items(), key=lambda item: (-item[1][2], -item[1][1])))

    def table(self, all_layers: bool = False) -> str:
        """Return the cost as a text table; `all_layers` also lists those without MACs."""
        from depthwise.analysis.tables import cost_table, render  # noqa: PLC0415  (of costs)

        return render(cost_table(self, all_layers))

    def to_dict(self) -> dict:
        """Return everything, with the convention, in types that JSON has."""
        totals = {
            name: getattr(self, name)
            for name in (
                "network", "input_shapes", "params", "unused_params", "macs", "flops",
                "weight_bytes", "bytes_read", "bytes_written", "peak_bytes", "peak_layer",
                "intensity", "receptive_field", "milliseconds",
            )
        }  # fmt: skip
        error = asdict(self.milliseconds_error) if self.milliseconds_error else None
        layers = [{**asdict(layer), "intensity": layer.intensity} for layer in self.layers]
        not_counted = [layer.name for layer in self.not_counted]
        return {
            "convention": CONVENTION, **totals, "milliseconds_error": error,
            "not_counted": not_counted, "layers": layers,
        }  # fmt: skip

    def to_json(self) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    def to_csv(self) -> str:
        """Return the layers as CSV, one line each; empty where a number is not known."""
        text = io.StringIO()
        rows = self.to_dict()["layers"]
        writer = csv.DictWriter(text, rows[0].keys() if rows else ["path"], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: _cell(v) for k, v in row.items()})
        return text.getvalue()


def _cell(value: object) -> object:
    return "x".join(map(str, value)) if isinstance(value, tuple | list) else in_cell(value)


def cost(
    net: "Network", *shapes: Any, kwargs: Mapping[str, Any] = NO_KWARGS, until: str | None = None
) -> Cost:
    """Count `net` in evaluation mode for inputs of `shapes`, one (N, C, H, W) for each input.

    It is whatever `dw.open` takes, and ends with `until` as there. It may be on the meta device and
    is not changed; operators that we do not know are listed in `not_counted`. Raises ValueError for
    shapes that do not fit.
    """
    source = describe(net, *shapes, kwargs=kwargs, until=until)
    return cost_of_graph(source.traced, source.name)


def cost_of_graph(graph: Graph, network: str = "") -> Cost:
    """Count a graph."""
    fields = receptive_fields(graph)
    counted: set[str] = set()
    layers = []
    for node in graph:
        parameters = _parameters(graph, node, counted)
        field = fields[node.name]
        shown = None if field.whole or len(node.type.shape) != 4 else field
        activations = graph.activations(node)
        layers.append(
            Layer(
                path=node.path,
                name=node.name,
                kind=kind(graph, node),
                operator=node.op.operator
                if isinstance(node.op, ops.Opaque)
                else type(node.op).__name__,
                input_shape=graph.type(activations[0]).shape if activations else (),
                output_shape=node.type.shape,
                params=sum(type_.size for type_ in parameters),
                macs=count_macs(graph, node),
                weight_bytes=sum(type_.bytes for type_ in parameters),
                bytes_read=_bytes_read(graph, node),
                bytes_written=0 if isinstance(node.op, ops.Reshape) else node.type.bytes,
                receptive_field=shown.size if shown else None,
                step=shown.step if shown else None,
            )
        )
    trainable = {name: c.type for name, c in graph.constants.items() if c.trainable}
    peak = peak_activations(graph)
    at = next((node.path or node.name for node in graph if node.name == peak.node), "the input")
    return Cost(
        network=network,
        input_shapes=tuple(type_.shape for type_ in graph.inputs.values()),
        layers=tuple(layers),
        params=sum(type_.size for type_ in trainable.values()),
        unused_params=sum(t.size for name, t in trainable.items() if name not in counted),
        weight_bytes=sum(type_.bytes for type_ in trainable.values()),
        peak_bytes=peak.bytes,
        peak_layer=at,
    )


def _parameters(graph: Graph, node: Node, counted: set[str]) -> list[TensorType]:
    """Return the parameters that a node is the first to read, and mark them as counted."""
    found = []
    for name in graph.weights(node):
        constant = graph.constants[name]
        for source in constant.sources or (name,):
            if graph.constants[source].trainable and source not in counted:
                counted.add(source)
                found.append(graph.constants[source].type)
    return found


def _bytes_read(graph: Graph, node: Node) -> int:
    if isinstance(node.op, ops.Reshape):
        return 0  # another view of the same bytes
    return sum(graph.type(name).bytes for name in dict.fromkeys(node.inputs))
