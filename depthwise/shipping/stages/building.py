"""Compile: the library, verified on random inputs and on the images, and saved."""

from depthwise.compiler.pipeline import compile_source
from depthwise.report.record import Compilation, Report
from depthwise.runtime.artifact import SHARED, SOURCE, read_artefact
from depthwise.shipping.network import CurrentNetwork
from depthwise.shipping.request import Request


def build_library(
    request: Request, network: CurrentNetwork, _: Report
) -> tuple[Compilation, CurrentNetwork]:
    """Compile the network, verify it against its reference and save it to the request's directory.

    Raises Unsupported, Mismatch or BuildError as `dw.compile` does.
    """
    build, prepare = request.build, network.preprocessing
    samples = [prepare.apply(image) for image in request.images] if prepare else ()
    library = compile_source(network.source, build, samples, labels=network.labels)
    library.save(request.directory)
    check = library.manifest.verification
    compilation = Compilation(
        manifest=library.manifest,
        values_compared=len(check.layers) if check else 0,
        source_bytes=(request.directory / SOURCE).stat().st_size,
        library_bytes=(request.directory / SHARED[build.chosen.suffix]).stat().st_size,
    )
    return compilation, network


def is_saved(request: Request, found: Compilation) -> bool:
    """Tell whether the saved library is still the one that was built."""
    try:
        manifest = read_artefact(request.directory).manifest
    except ValueError:
        return False
    return manifest.model_copy(update={"report": None}) == found.manifest
