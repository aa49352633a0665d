"""A network in int8 for whoever compiles it: as it is, or by `dw.quantize`."""

from depthwise.compiler.options import INT8
from depthwise.precision.request import NO_INT8, PrecisionRequest
from depthwise.quantization.integer import is_quantised
from depthwise.sources.source import Source


def quantised(source: Source, asked: PrecisionRequest) -> Source:
    """Return a network in int8: as it is where it is already, else quantised on the images asked.

    Raises what `dw.quantize` raises.
    """
    if is_quantised(source.graph):
        for name, value in (("data", asked.data), ("agreement", asked.agreement)):
            if value is not None:
                raise ValueError(
                    f"{source.name} is quantised already, with the images of then: leave out the "
                    f"{name}"
                )
        return source
    from depthwise.precision.options import QuantizationOptions  # noqa: PLC0415  (PyTorch)
    from depthwise.precision.quantize import quantize  # noqa: PLC0415

    check_data(source, asked)
    options = QuantizationOptions(agreement=asked.agreement)
    found = quantize(source, data=asked.data, options=options, tell=asked.tell)
    asked.tell(str(found))
    return found.source


def check_data(source: Source, asked: PrecisionRequest) -> None:
    """Raise ValueError where int8 is asked for, and there is nothing to quantise a network with."""
    if asked.precision == INT8 and asked.data is None and not is_quantised(source.graph):
        raise ValueError(f"precision={asked.precision!r}: {NO_INT8}")
