"""A network that was quantised: a graph, and the record of what was done."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from depthwise.analysis.units import in_units
from depthwise.files.atomic import replace_text
from depthwise.graph import Graph
from depthwise.precision.record import QuantizationRecord
from depthwise.sources.quantized_folder import (
    QuantizedRecord,
    QuantizedSource,
    quantized_source,
    write_quantized,
)
from depthwise.weights import Preprocessing

RECORD = "quantization.json"


@dataclass(frozen=True, eq=False)
class Quantized:
    """A quantised network.

    Attributes:
        graph: The network with Quantize and Dequantize nodes, as `dw.open`, `dw.simulate` and
            `dw.export_onnx` take it.
        record: What was done, and what came of it.
        classes: The names of its classes, where they are known.
        preprocessing: How an image becomes its input, where that is known.
    """

    graph: Graph
    record: QuantizationRecord
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None

    def save(self, directory: str | PathLike[str]) -> None:
        """Keep the network in a directory, which is then one as quantized:DIRECTORY.

        Raises OSError where it cannot be written, ValueError where a slimmed network is there.
        """
        folder = Path(directory)
        write_quantized(folder, self.graph, self._folder_record)
        replace_text(folder / RECORD, self.record.model_dump_json(indent=1) + "\n")

    @property
    def source(self) -> QuantizedSource:
        """The network as `dw.open` returns it from its directory."""
        return quantized_source(self.graph, self._folder_record)

    @property
    def _folder_record(self) -> QuantizedRecord:
        return QuantizedRecord(
            network=self.record.network, classes=self.classes, preprocessing=self.preprocessing
        )

    def __str__(self) -> str:
        """Return what it came to, in a sentence."""
        found = self.record
        parts = [f"{found.nats:.5f} nats from the original on {found.held_out} held-out images"]
        if found.agreement is not None:
            parts = [f"the same class in {found.agreement:.2%} of {found.held_out} held-out images"]
        if found.accuracy:
            before, after = found.accuracy
            parts.append(f"accuracy {before:.2%} to {after:.2%} of {found.judged:,}")
        parts.append(
            f"weights {in_units(found.float_bytes, 'B')} to {in_units(found.weight_bytes, 'B')}"
        )
        if found.kept:
            layers = "1 layer" if len(found.kept) == 1 else f"{len(found.kept)} layers"
            parts.append(f"{layers} in {found.kept_in}")
            if found.kept_in != "float32":
                parts.append(f"where it is compiled with --precision {found.kept_in}")
        return f"{found.network} in int8: {', '.join(parts)}"
