"""Compile: the library, verified on random inputs and on the images, and saved."""

from pathlib import Path

from depthwise.precision.compiling import compile_in
from depthwise.report.record import Compilation, Report
from depthwise.runtime.artifact import SHARED, SOURCE, read_artefact
from depthwise.shipping.network import CurrentNetwork
from depthwise.shipping.request import Request
from depthwise.shipping.stages.judging import data_key
from depthwise.shipping.state import hash_files
from depthwise.training.calibration_data import loose_images


def build_library(
    request: Request, network: CurrentNetwork, _: Report
) -> tuple[Compilation, CurrentNetwork]:
    """Compile the network, verify it against its reference and save it to the request's directory.

    Raises Unsupported, Mismatch or BuildError as `dw.compile` does.
    """
    build, prepare = request.build, network.preprocessing
    samples = [prepare.apply(image) for image in request.images] if prepare else ()
    library = compile_in(network.source, build, request.asked, samples, labels=network.labels)
    library.save(request.directory)
    check = library.manifest.verification
    compilation = Compilation(
        manifest=library.manifest,
        values_compared=len(check.layers) if check else 0,
        source_bytes=(request.directory / SOURCE).stat().st_size,
        library_bytes=(request.directory / SHARED[build.chosen.suffix]).stat().st_size,
    )
    return compilation, network


def precision_key(request: Request) -> list[object]:
    """Return what the precision depends on, in values that JSON can hold."""
    asked = request.asked
    found: list[object] = [request.build.precision, asked.precision, asked.agreement]
    if not asked.calibrates:
        return found
    loose = loose_images(Path(asked.data)) if isinstance(asked.data, str) else []
    return [*found, data_key(request.data), str(asked.data), hash_files(tuple(loose))]


def is_saved(request: Request, found: Compilation) -> bool:
    """Tell whether the saved library is still the one that was built."""
    try:
        manifest = read_artefact(request.directory).manifest
    except ValueError:
        return False
    return manifest.model_copy(update={"report": None}) == found.manifest
