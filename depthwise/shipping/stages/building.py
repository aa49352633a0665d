"""The second stage: the library, compiled, verified on random inputs and on the images, saved."""

from depthwise.compiler.pipeline import compile_source
from depthwise.report.record import Compiled, Report
from depthwise.runtime.artifact import SHARED, SOURCE, read_artefact
from depthwise.shipping.request import Order
from depthwise.sources.source import torch_source


def build(order: Order, _: Report) -> Compiled:
    """Compile the network, verify it against PyTorch and save it to the order's directory.

    Raises Unsupported, Mismatch or BuildError as `dw.compile` does.
    """
    source, chosen = order.source, order.build.chosen
    prepare = source.preprocessing
    samples = [prepare.apply(image) for image in order.images] if prepare else ()
    opened = torch_source(source.net, source.shapes)
    library = compile_source(opened, order.build, samples, labels=source.labels)
    library.save(order.directory)
    check = library.manifest.verification
    return Compiled(
        manifest=library.manifest,
        values_compared=len(check.layers) if check else 0,
        source_bytes=(order.directory / SOURCE).stat().st_size,
        library_bytes=(order.directory / SHARED[chosen.suffix]).stat().st_size,
    )


def stands(order: Order, found: Compiled) -> bool:
    """Tell whether the saved library is still the one that was built."""
    try:
        manifest = read_artefact(order.directory).manifest
    except ValueError:
        return False
    return manifest.model_copy(update={"report": None}) == found.manifest
